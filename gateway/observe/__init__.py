"""Only looks: histograms, metrics, comparison, HTTP. Nothing here changes what a request or a release does."""

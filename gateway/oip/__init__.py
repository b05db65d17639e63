"""The Open Inference Protocol in bytes, pure: read ModelInferRequest without copying tensors, write ModelInferResponse.

`request` reads, `contents` turns typed contents into raw ones, `asked` and `reserved` read what the parameters of a
request and of its tensors ask, `reply` writes, `stream` wraps replies for streams, `status` says what an error is. The
fast path makes no protobuf object.
"""

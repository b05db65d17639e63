from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import models
from tests.serving import Gateway, serving


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """An empty models directory."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory, transport: str) -> Iterator[Gateway]:
    """One gateway per transport, for tests that only read: every kind of model, version 1 released."""
    folder = tmp_path_factory.mktemp(f"shared-{transport}")
    directory = folder / "models"
    for datatype in models.ELEMENT_TYPES:
        if datatype != "BF16":
            models.save(directory, f"identity_{datatype.lower()}", 1, models.identity(datatype))
    models.save(directory, "classifier", 1, models.classifier())
    labelled = models.save(directory, "labelled", 1, models.classifier())
    labelled.with_name("model.toml").write_text('labels = { probabilities = "labels.txt" }')
    labelled.with_name("labels.txt").write_text("cat\ndog\n")
    models.save(directory, "two_inputs", 1, models.two_inputs())
    models.save(directory, "scalar", 1, models.scalar())
    models.save(directory, "texts", 1, models.text_labels("no", "yes"))
    with serving(directory, folder / "state", "--transport", transport) as gateway:
        yield gateway

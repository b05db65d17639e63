import shutil
from pathlib import Path

import pytest

from loadtests.bench.errors import BenchError
from loadtests.compare import nginx
from loadtests.compare.peers import Site


@pytest.mark.parametrize("kept", [True, False])
def test_the_configuration_splits_and_does_nothing_else(kept: bool) -> None:
    text = nginx.configuration(Path("/tmp/n"), 1234, 8001, kept=kept)
    assert "listen 127.0.0.1:1234 http2;" in text
    assert text.count("server 127.0.0.1:8001;") == 2
    assert 'split_clients "$http_x_user_id" $arm { 10% green; * blue; }' in text
    assert text.count("{") == text.count("}")
    assert ("keepalive 256" in text) == kept


def test_without_nginx_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BenchError, match="nginx-light"), nginx.splitting(Site(tmp_path, tmp_path), 1, kept=True):
        pass


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_it_starts_with_a_master_and_a_worker(tmp_path: Path) -> None:
    with nginx.splitting(Site(tmp_path, tmp_path), 1, kept=False) as running:
        workers = nginx.workers(running)
        assert running.pid not in workers
        assert len(workers) == 1

"""No case is forgotten: every one has its row in README.md, every row its tests, and every difference is said."""

import ast
import re
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
CASES = (
    "empty_unary", "cacheable_unary", "large_unary", "client_compressed_unary", "server_compressed_unary",
    "client_streaming", "client_compressed_streaming", "server_streaming", "server_compressed_streaming", "ping_pong",
    "empty_stream", "compute_engine_creds", "compute_engine_channel_credentials", "jwt_token_creds",
    "oauth2_auth_token", "per_rpc_creds", "service_account_creds", "google_default_credentials", "custom_metadata",
    "status_code_and_message", "special_status_message", "unimplemented_method", "unimplemented_service",
    "cancel_after_begin", "cancel_after_first_response", "timeout_on_sleeping_server", "rpc_soak", "channel_soak",
    "long_lived_channel", "concurrent_large_unary", "orca_per_rpc", "orca_oob", "pick_first_unary",
    "goaway", "rst_after_header", "rst_during_data", "rst_after_data", "ping", "max_streams", "data_frame_padding",
    "no_df_padding_sanity_test",
)  # fmt: skip
"""Of grpc/grpc doc/interop-test-descriptions.md and doc/http2-interop-test-descriptions.md."""
FILES = ("test_cases", "test_compression", "test_flow_control", "test_rogue_client")
RESULTS = {"passes", "differs"}


@cache
def written() -> dict[str, str]:
    """The source of every test of a case, by `file::name`."""
    found = {}
    for name in FILES:
        source = (HERE / f"{name}.py").read_text("utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found[f"{name}::{node.name}"] = ast.get_source_segment(source, node) or ""
    return found


@cache
def rows() -> list[tuple[list[str], list[str], list[str], str]]:
    """Cases, tests, results (h2, grpcio) and remark of each row of the table."""
    text = (
        (HERE.parent / "README.md").read_text("utf-8").partition("\n# The interop test cases")[2].partition("\n# ")[0]
    )
    found = []
    for line in re.findall(r"^\|(?! case |-)(.*)\|$", text, re.MULTILINE):
        cases, names, ours, theirs, remark = (cell.strip() for cell in line.split("|"))
        found.append((cases.split(", "), re.findall(r"`(.*?)`", names), [ours, theirs], remark))
    return found


def test_every_case_has_one_row() -> None:
    listed = [case for cases, _, _, _ in rows() for case in cases]
    assert [case for case in CASES if listed.count(case) != 1] == []


def test_every_row_names_tests_and_results_or_a_reason() -> None:
    for cases, named, results, remark in rows():
        if named:
            assert set(results) <= RESULTS, cases
        else:
            assert results == ["", ""], cases
            assert remark.startswith("Not applicable: "), cases


def test_every_test_stands_in_the_table() -> None:
    assert {name for _, named, _, _ in rows() for name in named} == set(written())


def test_differences_are_those_the_tests_make() -> None:
    for cases, named, results, remark in rows():
        different = any("is_ours" in written()[name] for name in named)
        assert different == ("differs" in results), cases
        assert remark or not different, cases

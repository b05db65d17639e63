from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.modelconfig import model_config
from gateway.routing.snapshot import Pool, Queueing, Tensor
from protos import inference_pb2 as pb
from tests.models import ELEMENT_TYPES
from tests.unit.gateway.dataplane.fakes import pool

SHAPES = st.lists(st.sampled_from([-1, 1, 3, 224]), min_size=1, max_size=4).map(tuple)
TENSORS = st.lists(st.builds(Tensor, st.text(min_size=1), st.sampled_from(sorted(ELEMENT_TYPES)), SHAPES), max_size=3)


def test_a_model_whose_requests_are_joined() -> None:
    queueing = Queueing(0.002, (4, 8), pad_ragged=True, queue_timeout_s=1.5, priority_levels=3)
    config = model_config(pool(queueing=queueing, instances=2), (1, 4), max_queue=100)
    assert (config.name, config.platform, config.backend) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert (config.max_batch_size, list(config.version_policy.specific.versions)) == (8, [1, 4])
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [("X", pb.TYPE_FP32, [2])]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [("Y", pb.TYPE_FP32, [2])]
    assert config.input[0].allow_ragged_batch
    assert [(one.count, one.kind) for one in config.instance_group] == [(2, pb.ModelInstanceGroup.KIND_CPU)]
    batching = config.dynamic_batching
    assert (list(batching.preferred_batch_size), batching.max_queue_delay_microseconds) == ([4, 8], 2000)
    assert (batching.priority_levels, batching.default_priority_level) == (3, 3)
    policy = batching.default_queue_policy
    assert (policy.default_timeout_microseconds, policy.max_queue_size) == (1_500_000, 100)
    assert config.HasField("model_transaction_policy")
    assert not config.model_transaction_policy.decoupled


def test_a_model_whose_requests_run_one_by_one() -> None:
    config = model_config(pool(batched=False, max_batch_size=1), (1,), max_queue=100)
    assert (config.max_batch_size, config.WhichOneof("scheduling_choice")) == (0, None)
    assert list(config.input[0].dims) == [-1, 2]


@given(inputs=TENSORS, outputs=TENSORS, batched=st.booleans())
def test_it_agrees_with_the_metadata(inputs: list[Tensor], outputs: list[Tensor], batched: bool) -> None:
    made = Pool(
        *("m", 1, False, "ready"), inputs=tuple(inputs), outputs=tuple(outputs), batched=batched, max_batch_size=4
    )
    config = model_config(made, (1,), 10)
    skipped = 1 if config.max_batch_size else 0
    for described, specs in ((config.input, inputs), (config.output, outputs)):
        assert [one.name for one in described] == [spec.name for spec in specs]
        assert [tuple(one.dims) for one in described] == [spec.shape[skipped:] for spec in specs]
        assert pb.TYPE_INVALID not in {one.data_type for one in described}

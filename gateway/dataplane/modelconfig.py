"""How a version runs, in the words of Triton's config.pbtxt (`inference.ModelConfig`). Pure."""

from collections.abc import Sequence
from typing import Final

from gateway.routing.snapshot import Pool, Tensor
from protos import inference_pb2 as pb

PLATFORM: Final = "onnxruntime_onnx"
BACKEND: Final = "onnxruntime"
MODEL_FILE: Final = "model.onnx"


def model_config(pool: Pool, versions: Sequence[int], max_queue: int) -> pb.ModelConfig:
    """The configuration of a version that has loaded; `versions` are live, `max_queue` may wait in each proxy.

    As in Triton: where requests are joined, max_batch_size is above 0 and `dims` leave the batch axis out, which the
    shapes of ModelMetadata keep; else it is 0 and `dims` are whole shapes.
    """
    config = pb.ModelConfig(
        name=pool.model,
        platform=PLATFORM,
        backend=BACKEND,
        version_policy=pb.ModelVersionPolicy(specific=pb.ModelVersionPolicy.Specific(versions=versions)),
        max_batch_size=pool.max_batch_size if pool.batched else 0,
        default_model_filename=MODEL_FILE,
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )
    for spec in pool.inputs:
        ragged = pool.batched and pool.queueing.pad_ragged
        config.input.add(name=spec.name, data_type=_type(spec), dims=_dims(pool, spec), allow_ragged_batch=ragged)
    for spec in pool.outputs:
        config.output.add(name=spec.name, data_type=_type(spec), dims=_dims(pool, spec))
    config.instance_group.add(name=pool.model, count=pool.instances, kind=pb.ModelInstanceGroup.KIND_CPU)
    if pool.batched:
        config.dynamic_batching.CopyFrom(_batching(pool, max_queue))
    return config


def _batching(pool: Pool, max_queue: int) -> pb.ModelDynamicBatching:
    queueing = pool.queueing
    return pb.ModelDynamicBatching(
        preferred_batch_size=queueing.preferred_batch_sizes,
        max_queue_delay_microseconds=_us(queueing.max_queue_delay_s),
        preserve_ordering=False,
        priority_levels=queueing.priority_levels,
        default_priority_level=queueing.priority_levels,
        default_queue_policy=pb.ModelQueuePolicy(
            timeout_action=pb.ModelQueuePolicy.REJECT,
            default_timeout_microseconds=_us(queueing.queue_timeout_s),
            allow_timeout_override=True,
            max_queue_size=max_queue,
        ),
    )


def _dims(pool: Pool, spec: Tensor) -> tuple[int, ...]:
    return spec.shape[1:] if pool.batched else spec.shape


def _type(spec: Tensor) -> str:
    """TYPE_FP32 for FP32; BYTES is called TYPE_STRING."""
    return "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"


def _us(seconds: float) -> int:
    return round(seconds * 1e6)

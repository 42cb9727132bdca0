"""Named resources, ``-h NAME``: nodes of eight GPUs with a network for RDMA. A site adds its own as in
docs/launching/networks.md."""

from torchx.specs import Resource

EFA = "vpc.amazonaws.com/efa"


def h200x8_rdma() -> Resource:
    """A node of eight H100 or H200 with eight InfiniBand or RoCE ports, as NVIDIA's network operator names them."""
    return Resource(cpu=96, gpu=8, memMB=1_000_000, devices={"rdma/ib": 8})


def aws_p5en() -> Resource:
    """AWS' p5en.48xlarge: eight H200, 16 EFA devices, and the huge pages that EFA takes its buffers from."""
    return Resource(
        cpu=192,
        gpu=8,
        memMB=1_900_000,
        capabilities={"node.kubernetes.io/instance-type": "p5en.48xlarge"},
        devices={EFA: 16, "hugepages-2Mi": 5 * 2**30},
    )

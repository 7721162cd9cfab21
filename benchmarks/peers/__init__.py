"""The tools that measure the same spectra, one file each; eigenscope itself is in ``ours``."""

from peers.base import Peer, Reading, Settings, Spectrum
from peers.curvlinops_eigsh import Curvlinops
from peers.eigenthings import HessianEigenthings
from peers.ours import measure_ours, our_product
from peers.pyhessian_slq import PyHessian

PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (HessianEigenthings, Curvlinops, PyHessian)}

__all__ = ["PEERS", "Peer", "Reading", "Settings", "Spectrum", "measure_ours", "our_product"]

"""Running kernels that were printed as Triton modules, on torch tensors.

A launch goes to the current CUDA stream of the buffers' device and does not wait for it. With
`TRITON_INTERPRET=1` in the environment Triton interprets kernels instead, on CPU tensors.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from ndl.runtime.kernels.files import digest, folder, kept
from ndl.runtime.kernels.tiles import CANDIDATES, SINGLE, Device, Tile, magnitude, tile_for
from torch import Tensor

REALS = {"f64": torch.float64, "f32": torch.float32}
WARPS = 32
"""Warps for each multiprocessor where trajectories are refilled: as many as it can hold."""

CROWDED = 16
"""The same where threads have a workspace: more of them find no registers, and would take memory."""


class TritonMissing(ImportError):
    """Triton is not installed."""

    def __init__(self) -> None:
        super().__init__("kernels for GPUs need triton: `pip install ndl-lang[triton]`")


class TritonKernel:
    """A printed kernel, ready to run."""

    def __init__(self, text: str) -> None:
        self.id = digest(text)
        self.module = load(text)
        own = tuple(Tile(*t) for t in getattr(self.module, "TILES", ()))
        self.candidates = own or (SINGLE if self.module.WORKSPACE else CANDIDATES)
        self._tiles: dict[tuple[torch.device, int], Tile] = {}

    def run(self, count: int, buffers: Mapping[str, Tensor], tile: Tile | None = None) -> None:
        """Run `count` trajectories; `buffers` are contiguous. Without a `tile` the fastest is used."""
        device = self._checked(count, buffers)
        if count == 0:
            return
        if device.type == "cuda":
            with torch.cuda.device(device):
                self._launch(count, buffers, tile or self._tile(count, buffers, device), device)
        else:
            with np.errstate(all="ignore"):
                self._launch(count, buffers, tile or self.candidates[0], device)

    def _launch(self, count: int, buffers: Mapping[str, Tensor], tile: Tile, device: torch.device) -> None:
        more = {"BLOCK": tile.block, "num_warps": tile.warps, "num_stages": tile.stages}
        if self.module.WORKSPACE or not self.module.EVEN:
            more["programs"] = _programs(device, CROWDED if self.module.WORKSPACE else WARPS, tile.warps)
        given = [buffers[name] for name, *_ in self.module.BUFFERS]
        self.module.launch(count, *given, **more)

    # ------------------------------------------------------------ checks

    def _checked(self, count: int, buffers: Mapping[str, Tensor]) -> torch.device:
        """The device of the buffers. Raises `ValueError` for buffers that do not fit the kernel."""
        devices = set()
        for name, kind, _, type in self.module.BUFFERS:
            if name not in buffers:
                raise ValueError(f"the kernel's buffer `{name}` is missing")
            given, wanted = buffers[name], REALS[self.module.PRECISION] if type == "real" else torch.int32
            if given.dtype != wanted or not given.is_contiguous():
                raise ValueError(f"buffer `{name}` must be contiguous {wanted}, not {given.dtype}")
            if kind == "member" and count and given.numel() % count:
                raise ValueError(f"buffer `{name}` has {given.numel()} numbers for {count} trajectories")
            devices.add(given.device)
        if len(devices) != 1:
            raise ValueError("a kernel's buffers must all be on one device")
        device = devices.pop()
        if device.type != "cuda" and not interpreted():
            raise ValueError(
                f"Triton kernels run on a GPU, not on `{device}` (TRITON_INTERPRET=1 interprets)"
            )
        return device

    # ------------------------------------------------------------ the tile

    def _tile(self, count: int, buffers: Mapping[str, Tensor], device: torch.device) -> Tile:
        """The tile for a batch of this size, found once a process. While a CUDA graph is captured nothing
        can be timed."""
        key = device, magnitude(count)
        if key not in self._tiles:
            if torch.cuda.is_current_stream_capturing():
                return self.candidates[0]
            known = None if interpreted() else device_of(device)
            file = folder() / "triton" / f"{self.id}.json"
            time = self._timer(count, buffers, device)
            self._tiles[key] = tile_for(file, known, count, time, self.candidates)
        return self._tiles[key]

    def _timer(
        self, count: int, buffers: Mapping[str, Tensor], device: torch.device
    ) -> Callable[[Tile], float]:
        """Milliseconds of a launch. Buffers that are read and written are copies, new ones each time."""
        both = [name for name, _, mode, _ in self.module.BUFFERS if mode == "inout"]
        trial = dict(buffers)

        def once(tile: Tile) -> float:
            trial.update((name, buffers[name].clone()) for name in both)
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            self._launch(count, trial, tile, device)
            end.record()
            end.synchronize()
            return float(start.elapsed_time(end))

        return lambda tile: min([once(tile) for _ in range(4)][1:])


def interpreted() -> bool:
    """Whether Triton interprets kernels."""
    return bool(_triton().knobs.runtime.interpret)


def load(text: str) -> ModuleType:
    """The module of a printed kernel, imported from a file of the cache (Triton reads its source)."""
    _triton()
    path = kept(text, "triton", ".py")
    spec = importlib.util.spec_from_file_location(f"ndl_kernel_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"`{path}` cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def device_of(device: torch.device) -> Device:
    """What a choice of tile on a GPU holds for."""
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    return Device(name, capability, str(_triton().__version__))


def _programs(device: torch.device, warps: int, each: int) -> int:
    """Programs of so many warps each that a device holds."""
    if device.type != "cuda":
        return 3
    return max(1, warps // each) * int(torch.cuda.get_device_properties(device).multi_processor_count)


def _triton() -> Any:
    try:
        import triton
    except ImportError as error:
        raise TritonMissing from error
    return triton

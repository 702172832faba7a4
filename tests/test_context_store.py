"""Claim: rows are read as they were written, wherever they lie, and nothing of them is left behind."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from store_helpers import ALL_NEAR, LAYOUTS, lay_out
from torch import Tensor

from cvfp.records.errors import CvfpError
from cvfp.training import context_store, host_memory
from cvfp.training.context_store import ContextStore, FileRows, HostRows, device_bytes, host_bytes

CPU = torch.device("cpu")
ROWS = 101
"""Of 24 bytes each here."""


@pytest.fixture(params=[ALL_NEAR, *LAYOUTS], ids=str)
def laid_out(request, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(monkeypatch, *request.param)


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    lay_out(monkeypatch, 0, 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def filled() -> tuple[ContextStore, Tensor]:
    store, rows = ContextStore((ROWS, 2, 3), torch.float32, CPU), torch.randn(ROWS, 2, 3)
    store.write(0, rows)
    return store, rows


def test_rows_lie_where_there_is_room(monkeypatch):
    lay_out(monkeypatch, 300, 700)
    store = ContextStore((ROWS, 2, 3), torch.float32, CPU)
    assert len(store.near) == 12
    assert [(type(tier), tier.first, tier.last) for tier in store.far] == [
        (HostRows, 12, 41),
        (FileRows, 41, 101),
    ]
    assert len(ContextStore((ROWS, 2, 3), torch.float32, CPU, leave=100).near) == 8


@pytest.mark.parametrize("seed", range(5))
def test_reads_and_writes_in_any_order(laid_out, seed: int):
    store, expected = filled()
    chance = np.random.default_rng(seed)
    for _ in range(60):
        first, last = sorted(chance.integers(0, ROWS + 1, 2).tolist())
        places = torch.from_numpy(chance.permutation(ROWS)[: chance.integers(0, 20)])
        match chance.integers(0, 4):
            case 0:
                expected[first:last] = rows = torch.randn(last - first, 2, 3)
                store.write(first, rows)
            case 1:
                expected[places] = rows = torch.randn(len(places), 2, 3)
                store.put(places, rows)
            case 2:
                taken = torch.empty(len(places), 2, 3)
                store.take(places, taken)
                assert torch.equal(taken, expected[places])
            case 3:
                assert torch.equal(store.read(first, last), expected[first:last])
    assert torch.equal(store.read(), expected)


@pytest.mark.parametrize("length", [1, 7, 25, ROWS, 200])
def test_sweeps_read_what_the_one_before_wrote(laid_out, length: int):
    store, expected = filled()
    ranges = [(first, min(first + length, ROWS)) for first in range(0, ROWS, length)]
    for _ in range(3):
        for (first, last), rows in zip(ranges, store.sweep(ranges), strict=True):
            assert torch.equal(rows, expected[first:last])
            store.write(first, 2 * rows + 1)
        expected = 2 * expected + 1
    assert torch.equal(store.read(), expected)


def test_a_sweep_of_nothing_or_one_that_is_left_early_leaves_the_store_as_it_is(laid_out):
    store, expected = filled()
    assert list(store.sweep([])) == []
    with pytest.raises(KeyboardInterrupt):
        for _rows in store.sweep([(0, 40), (40, 80), (80, ROWS)]):
            raise KeyboardInterrupt
    assert torch.equal(store.read(), expected)
    assert store.read(ROWS, ROWS).shape == (0, 2, 3)


@pytest.mark.parametrize("tier", [HostRows, FileRows])
def test_the_next_range_is_on_its_way_while_one_is_used(tier: type, monkeypatch):
    lay_out(monkeypatch, 0, 1 << 30 if tier is HostRows else 0)
    store, happened = filled()[0], []
    announce = tier.announce

    def watched(self, first, last, out):
        happened.append(f"{first} is coming")
        announce(self, first, last, out)

    monkeypatch.setattr(tier, "announce", watched)
    ranges = [(0, 40), (40, 80), (80, ROWS)]
    for (first, _), _rows in zip(ranges, store.sweep(ranges), strict=True):
        happened.append(f"{first} is used")
    assert happened == [
        "0 is coming",
        "40 is coming",
        "0 is used",
        "80 is coming",
        "40 is used",
        "80 is used",
    ]


def test_an_arm_without_contexts_has_rows_of_no_width(laid_out):
    store = ContextStore((5, 1, 0), torch.float32, CPU)
    taken = torch.empty(2, 1, 0)
    store.take(torch.tensor([1, 4]), taken)
    assert taken.shape == (2, 1, 0)


def test_the_file_of_a_store_is_gone_at_once_or_with_it(in_files: Path):
    store, _ = filled()
    assert [type(tier) for tier in store.far] == [FileRows]
    del store
    gc.collect()
    assert list(in_files.iterdir()) == []


def test_a_full_disk_is_an_error_that_names_the_place(in_files: Path, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(context_store, "_reserve", full)
    with pytest.raises(CvfpError, match=r"cvfp-contexts-.*No space left on device.*TMPDIR"):
        ContextStore((5, 3), torch.float32, CPU)
    assert list(in_files.iterdir()) == []


def test_rows_that_cannot_be_written_behind_are_an_error_of_what_comes_next(in_files: Path, monkeypatch):
    store, _ = filled()

    def refused(*arguments):
        raise OSError(12, "Cannot allocate memory")

    store.write(0, torch.zeros(3, 2, 3))
    monkeypatch.setattr(np, "memmap", refused)
    with pytest.raises(CvfpError, match=r"^contexts in a file of .*: Cannot allocate memory$"):
        store.read(5, 7)


# --- How much room there is.


def test_a_card_keeps_room_for_what_is_computed(monkeypatch):
    gib, card = 1 << 30, torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * gib)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1 * gib)
    for total, free, expected in [(100, 90, 72), (24, 20, 14), (8, 6, 4), (8, 1, 0)]:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, f=free, t=total: (f * gib, t * gib))
        assert device_bytes(card) == expected * gib


def test_processes_of_a_host_share_its_memory(monkeypatch):
    monkeypatch.setattr(context_store, "available_memory", lambda: 1000)
    assert host_bytes(CPU) == 0
    assert host_bytes(torch.device("cuda")) == 750
    monkeypatch.setattr("cvfp.training.group.world_size", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert host_bytes(torch.device("cuda")) == 375


GROUP_FILES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@pytest.mark.parametrize("kind", GROUP_FILES)
def test_available_memory_is_the_least_of_machine_and_containers(kind: str, tmp_path: Path, monkeypatch):
    def group(folder: str, most: str, used: int, droppable: int) -> None:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        limit, usage, name = GROUP_FILES[kind]
        (tmp_path / folder / limit).write_text(f"{most}\n")
        (tmp_path / folder / usage).write_text(f"{used}\n")
        (tmp_path / folder / "memory.stat").write_text(f"anon 5\n{name} {droppable}\n")

    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4 kB\n")
    (tmp_path / "own").write_text(f"7:cpu:/x\n3:{kind}:/a/b\n")
    monkeypatch.setattr(host_memory, "MACHINE", tmp_path / "meminfo")
    monkeypatch.setattr(host_memory, "OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(host_memory, "KINDS", {kind: (tmp_path / "groups", *GROUP_FILES[kind])})
    assert host_memory.available_memory() == 4096
    group("groups/a/b", "max", 100, 50)
    assert host_memory.available_memory() == 4096
    group("groups/a", "3000", 1000, 50)
    assert host_memory.available_memory() == 2050
    group("groups", "1000", 1000, 30)
    assert host_memory.available_memory() == 30


def test_a_system_that_does_not_say_has_no_memory_to_give(tmp_path: Path, monkeypatch):
    for name in ("MACHINE", "OWN_GROUPS"):
        monkeypatch.setattr(host_memory, name, tmp_path / "nothing")
    assert host_memory.available_memory() == 0

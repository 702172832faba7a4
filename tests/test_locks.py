"""Claims: where a file system has no locks, no work begins and one line says so; whoever waits for another
says for what; what a lock left behind keeps nobody waiting."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from contextlib import ExitStack

import pytest
import torch
from lab_helpers import tiny_plan

from cvfp.data.cache import cached_folder, silent
from cvfp.lab.messages import Note
from cvfp.lab.runner import run_sweep
from cvfp.lab.sweep_directory import LOCKS, Ledger, SweepDirectory, sweep_status
from cvfp.records import locks
from cvfp.records.errors import CvfpError
from cvfp.records.locks import held

CPU = torch.device("cpu")
MISSING = {"ENOSYS": errno.ENOSYS, "ENOLCK": errno.ENOLCK, "EOPNOTSUPP": errno.EOPNOTSUPP}


def take_locks_away(monkeypatch, number: int) -> None:
    def flock(descriptor, operation):
        raise OSError(number, os.strerror(number))

    locks._try.cache_clear()
    monkeypatch.setattr(fcntl, "flock", flock)


@pytest.fixture(params=MISSING.values(), ids=MISSING)
def no_locks(request, monkeypatch):
    take_locks_away(monkeypatch, request.param)
    yield os.strerror(request.param)
    locks._try.cache_clear()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(locks, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(locks, "TOLD_EVERY", 0.1)
    monkeypatch.setattr("cvfp.lab.runner.QUIET_SECONDS", 0.05)


def one_line(caught) -> str:
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_a_sweep_without_locks_is_refused_before_any_work(no_locks, tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4,))
    with pytest.raises(CvfpError, match="this file system has no locks") as caught:
        run_sweep(plan, tmp_path / "deep" / "sweep", CPU)
    assert f"{tmp_path}: " in one_line(caught) and no_locks in one_line(caught)
    assert "a local disk" in one_line(caught) and not list(tmp_path.iterdir())


def test_a_cache_without_locks_is_refused_before_anything_is_built(no_locks, tmp_path, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CvfpError, match=r"has no locks .* CVFP_CACHE names another folder") as caught:
        cached_folder("text", [1], lambda folder: pytest.fail("it was built"), silent)
    assert one_line(caught).startswith(f"cannot use the cache {tmp_path}/cache: ")


def test_a_run_is_not_trained_twice_where_one_process_has_locks_and_another_has_not(
    tmp_path, corpus, monkeypatch
):
    plan, heard = tiny_plan(corpus, arms=("unigram",), samples=(4, 8)), []
    directory = SweepDirectory(tmp_path, plan)
    directory.create()
    with Ledger(tmp_path).claim(plan.points[0].config.run_hash) as ours, monkeypatch.context() as elsewhere:
        assert ours
        take_locks_away(elsewhere, errno.ENOSYS)
        with pytest.raises(CvfpError, match="no locks"):
            run_sweep(plan, tmp_path, CPU, heard.append)
        claim = Ledger(tmp_path).claim(plan.points[0].config.run_hash)
        with pytest.raises(CvfpError, match="no locks"):
            claim.__enter__()
        status = sweep_status(tmp_path)
        assert "nobody can see whether it is running" in status.points[0].detail
        assert status.points[1].detail == "" and not heard and not (tmp_path / "runs").exists()
    locks._try.cache_clear()
    assert sweep_status(tmp_path).points[0].detail == ""


@pytest.mark.parametrize("left", ["", json.dumps({"pid": 1, "host": "gone"})])
def test_what_a_lock_left_behind_is_no_lock(tmp_path, left):
    (tmp_path / LOCKS).mkdir()
    (tmp_path / LOCKS / "abc").write_text(left)
    with Ledger(tmp_path).claim("abc") as ours:
        assert ours and Ledger(tmp_path).is_claimed("abc")
    assert Ledger(tmp_path).is_claimed("abc") is False


def test_a_wait_for_the_cache_is_told_and_ends(impatient, tmp_path, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path))
    notes, other = [], ExitStack()
    cached_folder("text", [1], lambda folder: None, silent)
    (lock,) = tmp_path.glob("text-*.lock")
    assert other.enter_context(held(lock, None, silent, ""))

    def note(line):
        notes.append(line)
        if len(notes) == 2:
            threading.Timer(0.01, other.close).start()

    assert cached_folder("text", [1], lambda folder: pytest.fail("it is there"), note) == lock.with_suffix("")
    assert set(notes) == {f"waiting for the cache's {lock.stem}, which another process has"}


def test_a_wait_that_has_an_end_ends_there(impatient, tmp_path):
    notes = []
    with held(tmp_path / "a", None, silent, "") as first, held(tmp_path / "a", 0.0, notes.append, "a") as now:
        assert first and not now and not notes
        with held(tmp_path / "a", 0.2, notes.append, "a") as later:
            assert not later and notes[0] == "waiting for a, which another process has"
    with held(tmp_path / "a", 0.0, silent, "a") as ours:
        assert ours
    assert locks.waiting_text("a", 660.0) == "waiting for a, which another process has (for 11 min now)"


def test_a_wait_for_the_runs_of_others_is_told(impatient, tmp_path, corpus, undrawn):
    plan, notes, other = tiny_plan(corpus, arms=("unigram",), samples=(4, 8)), [], ExitStack()
    SweepDirectory(tmp_path, plan).create()
    assert other.enter_context(Ledger(tmp_path).claim(plan.points[1].config.run_hash))

    def tell(message):
        if isinstance(message, Note) and message.text.startswith("waiting"):
            notes.append(message.text)
            other.close()

    assert run_sweep(plan, tmp_path, CPU, tell).done == 2
    label = "unigram 1gram, 8 samples, seed 42"
    assert notes == [f"waiting for 1 run ({label}), which another process has"]
    assert notes[0] in (tmp_path / "output.txt").read_text()

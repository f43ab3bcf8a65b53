"""States: whole or not there, of this work or not read, and written when they are due."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lqf.ridge import Snapshot
from lqf.snapshot import INTERRUPTED, TERMINATED, State, ending_gently, interval, read, write

STATE = Snapshot(
    {"weight": torch.randn(3, 4), "steps": torch.tensor(2.5), "flags": torch.tensor([True, False])},
    {"epoch": 3, "rate": 0.1 + 0.2, "loss": float("nan"), "history": [{"loss": 1.0}]},
)


def test_a_state_comes_back_bit_by_bit(tmp_path: Path) -> None:
    write(tmp_path / "state", "work", STATE)

    back = read(tmp_path / "state", "work")

    assert back is not None
    assert {n: (t.dtype, t.tolist()) for n, t in back.tensors.items()} == {
        n: (t.dtype, t.tolist()) for n, t in STATE.tensors.items()
    }
    assert repr(back.numbers) == repr(STATE.numbers)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["state"]


def test_no_state_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert read(tmp_path / "state", "work") is None
    assert not caplog.records


@pytest.mark.parametrize("damage", ["start", "middle", "end", "cut", "", "not a state"])
def test_a_state_that_is_not_what_was_written_is_not_read(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state"
    write(path, "work", STATE)
    content = bytearray(path.read_bytes())
    if (where := {"start": 0.02, "middle": 0.5, "end": 0.999}.get(damage)) is not None:
        content[int(where * len(content))] ^= 1
    else:
        content = content[:-1] if damage == "cut" else bytearray(damage.encode())
    path.write_bytes(content)

    assert read(path, "work") is None
    assert "begins anew" in caplog.text


def test_a_state_of_other_work_is_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "state", "work", STATE)

    with caplog.at_level("INFO"):
        assert read(tmp_path / "state", "other work") is None
    assert "other work" in caplog.text


def test_states_are_written_when_they_are_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def snapshot() -> Snapshot:
        made.append(1)
        return STATE

    monkeypatch.setenv("LQF_CHECKPOINT_SECONDS", "3600")
    State(tmp_path / "state", "work").offer(snapshot)
    assert made == []
    monkeypatch.setenv("LQF_CHECKPOINT_SECONDS", "0")
    state = State(tmp_path / "state", "work")
    state.offer(snapshot)
    state.offer(snapshot)
    assert made == [1, 1]
    state.forget()
    assert list(tmp_path.iterdir()) == []


def test_time_spent_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    for expected in (0.0, 7.0, 14.0):
        state = State(tmp_path / "state", "work")
        state.load()
        assert state.seconds == expected
        clock[0] += 7
        state.keep(STATE)


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_an_interval_is_a_number_of_seconds(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LQF_CHECKPOINT_SECONDS", value)

    with pytest.raises(ValueError, match=f"LQF_CHECKPOINT_SECONDS is '{value}'"):
        interval()


@pytest.fixture
def heard() -> Iterator[None]:
    """SIGINT as in the foreground; processes that a shell starts in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, TERMINATED), (signal.SIGINT, INTERRUPTED)]
)
def test_a_signal_to_end_waits_for_the_next_step_and_keeps_it(
    number: signal.Signals, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LQF_CHECKPOINT_SECONDS", "3600")
    state, steps = State(tmp_path / "state", "work"), []
    handler = signal.getsignal(number)

    @ending_gently()
    def work() -> None:
        for step in range(5):
            if step == 2:
                os.kill(os.getpid(), number)
            steps.append(step)
            state.offer(lambda: STATE)

    with pytest.raises(SystemExit) as ended:
        work()

    assert ended.value.code == status == 128 + number
    assert steps == [0, 1, 2]
    assert read(tmp_path / "state", "work") is not None
    assert signal.getsignal(number) == handler


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_gently():
            os.kill(os.getpid(), signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_sigterm_leaves_time_and_a_second_interrupt_does_not(
    caplog: pytest.LogCaptureFixture, request: pytest.FixtureRequest
) -> None:
    steps = []
    # In the background of a script interrupts are ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    @ending_gently()
    def work() -> None:
        # As from a scheduler, and from the watch on a workflow that the scheduler ended, too.
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        steps.append(1)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the interrupt was not heard")

    with pytest.raises(SystemExit) as ended:
        work()
    assert ended.value.code == TERMINATED
    assert steps
    assert "lost" in caplog.text


def test_without_a_step_the_process_leaves_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lqf.snapshot.GRACE", 1)

    @ending_gently()
    def work() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    with pytest.raises(SystemExit):
        work()


def test_a_state_that_cannot_be_written_does_not_end_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LQF_CHECKPOINT_SECONDS", "0")
    (tmp_path / "file").touch()

    State(tmp_path / "file" / "state", "work").offer(lambda: STATE)

    assert "could not be kept" in caplog.text

"""Labels by people: clips, answers that survive an interruption, the server's manners, the page
in a browser, and training."""

import contextlib
import dataclasses
import errno
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest

from envs import drawing
from envs.driving.lane_keep import EDGE
from irl_bench.algos import rlhf, rlhf_iterated
from irl_bench.core.settings import BadInput
from irl_bench.core.types import Spec
from irl_bench.labelling import clips
from irl_bench.labelling import page as server
from irl_bench.plan import donor, registry
from irl_bench.preferences.reward_model import LEAST_LABELS
from irl_bench.storage import comparisons
from irl_bench.storage.files import WriteError
from tests.worlds.helpers import Line

ROOT = Path(__file__).parents[2]
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
rng = np.random.default_rng(0)


def road(steps=6, offset=0.3):
    """Pictures of a car that drives 1 m per step along a road that bends, with a constant
    offset."""
    knots = np.zeros(128)
    knots[1:] = 0.01
    rows = np.zeros((steps, 3 + 128), np.float32)
    rows[:, 0], rows[:, 1], rows[:, 3:] = 100 + np.arange(steps), offset, knots
    return rows


@pytest.fixture
def folder(tmp_path):
    """20 pairs of 40 clips of `Line`'s shapes, drawn as a road; the first state's x tells which
    is better."""
    place = rng.normal(size=(40, 6, 3)).astype(np.float32)
    place[:, :, 0] = np.linspace(-1, 1, 40)[:, None]
    facts = {
        "env": "line",
        "world": {"wind": 0.1},
        "segment": 6,
        "pairs": 20,
        "seed": 0,
        "demos": 4,
        "demo_steps": 8,
        "steps": 60,
        "env_steps": 240,
    }
    np.savez(
        tmp_path / comparisons.CLIPS,
        facts=json.dumps(facts),
        observation=place,
        action=np.zeros((40, 6, 2), np.float32),
        pairs=rng.permutation(40).reshape(20, 2),
        **{"picture.road": np.stack([road()] * 40)},
    )
    return tmp_path


def fill(folder, count=20, answer="left"):
    lines = [json.dumps({"pair": pair, "answer": answer}) for pair in range(count)]
    (folder / comparisons.ANSWERS_FILE).write_text("\n".join(lines) + "\n")


def test_a_road_is_drawn_where_the_car_is():
    found = drawing.clip({"road": road()})
    of = lambda kind: [np.array(one["points"]) for one in found["still"] if one["kind"] == kind]
    lines = {kind: of(kind) for kind in ("edge", "middle")}
    assert len(found["frames"]) == 6 and len(lines["edge"]) == 2
    bodies = [np.array(frame[0]["points"]) for frame in found["frames"]]
    np.testing.assert_allclose(
        bodies[0].mean(0), [0.0, 0.3], atol=0.02
    )  # beside the origin, to the left
    steps = np.linalg.norm(np.diff([body.mean(0) for body in bodies], axis=0), axis=1)
    np.testing.assert_allclose(
        steps, 1.0 - 0.01 * 0.3, atol=0.01
    )  # the inner side of a left bend is shorter
    middle = lines["middle"][0]
    assert middle[-1, 1] > 1.0  # it bends to the left
    for side in lines["edge"]:
        gap = np.linalg.norm(side - middle, axis=1)
        np.testing.assert_allclose(gap, EDGE, atol=1e-2)


def test_a_robot_is_drawn_as_its_parts():
    bodies = np.zeros((3, 4, 2), np.float32)
    bodies[:, :, 0] = np.arange(4)
    found = drawing.clip({"bodies": bodies, "parents": np.array([[-1, 0, 1, 0]] * 3)})
    kinds = [line["kind"] for line in found["frames"][0]]
    assert kinds == ["limb"] * 3 + ["joint"] * 4
    assert found["frames"][0][2]["points"] == [[0.0, 0.0], [3.0, 0.0]]


def test_the_last_answer_counts_and_a_line_cut_off_is_left_out(folder):
    (folder / comparisons.ANSWERS_FILE).write_text(
        '{"pair": 0, "answer": "left"}\n{"pair": 0, "answer": "right"}\n{"pair": 1, "ans'
    )
    assert comparisons.read_answers(folder, 20) == {0: "right"}
    labelling = server.Labelling(folder)  # what comes next must not be written onto the half line
    assert labelling.answer(1, "equal")
    assert comparisons.read_answers(folder, 20) == {0: "right", 1: "equal"}
    (folder / comparisons.ANSWERS_FILE).write_text(
        '{"pair": 0, "answer": "left"}\n{"pair": 1, "answer": "skip"}'
    )  # whole but for its end
    labelling = server.Labelling(folder)
    assert labelling.answers == {0: "left", 1: "skip"} and labelling.answer(2, "right")
    assert comparisons.read_answers(folder, 20) == {0: "left", 1: "skip", 2: "right"}
    (folder / comparisons.ANSWERS_FILE).write_text('{"pair": 99, "answer": "left"}\n')
    with pytest.raises(BadInput, match="line 1"):
        comparisons.read_answers(folder, 20)


def test_comparisons_are_those_of_the_answers(folder):
    fill(folder, 12)
    with (folder / comparisons.ANSWERS_FILE).open("a") as file:
        file.write(
            '{"pair": 3, "answer": "skip"}\n{"pair": 4, "answer": "equal"}\n{"pair": 5, "answer": '
            '"right"}\n'
        )
    held = comparisons.read(folder, LEAST_LABELS)
    assert held.config["asked"] == 12  # a skipped pair was asked about
    leaves = held.leaves("comparisons", range(7, 9))
    observation, _, first, second, label = (leaf[1] for leaf in leaves)
    _, arrays = comparisons.read_clips(folder)
    kept = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(first, arrays["pairs"][kept, 0])
    np.testing.assert_array_equal(second, arrays["pairs"][kept, 1])
    assert label.tolist() == [1, 1, 1, 0.5, 0, 1, 1, 1, 1, 1, 1] and held.config["answers"] == 11
    assert observation.shape == (40, 6, 3) and len(leaves[0]) == 2


def test_bad_input_is_one_line(folder, monkeypatch):
    with pytest.raises(BadInput, match="holds 0 comparisons"):
        comparisons.read(folder, LEAST_LABELS)
    with pytest.raises(BadInput, match="holds no clips"):
        comparisons.read(folder / "nothing", LEAST_LABELS)
    with pytest.raises(BadInput, match="--given"):
        rlhf.make(Spec(Line(), 8, 4, 4), rlhf.Config(teacher="human"))
    with pytest.raises(BadInput, match="--algo=rlhf "):
        rlhf_iterated.make(Spec(Line(), 8, 4, 4), rlhf_iterated.Config(teacher="human"))
    fill(folder)
    import envs

    lane = registry.world("lane_keep", {"friction": 0.5})
    here = registry.values_of(lane)
    read = comparisons.read

    def of(env, **world):
        made = dataclasses.replace(
            read(folder, LEAST_LABELS), env=env, config={"world": {**here, **world}}
        )
        monkeypatch.setattr(comparisons, "read", lambda *_: made)
        return donor.read(str(folder), ("comparisons",), lane)

    of("lane_keep")
    with pytest.raises(BadInput, match=r"friction=1.0, not 0.5; nearest: --lane_keep.friction=1.0"):
        of("lane_keep", friction=1.0)
    with pytest.raises(BadInput, match="--env=hopper"):
        of("hopper")
    monkeypatch.undo()
    with pytest.raises(BadInput, match="not of chain"):
        donor.rebuild(
            read(folder, LEAST_LABELS), ("comparisons",), Spec(envs.make("chain"), 8, 4, 4)
        )
    (folder / comparisons.ANSWERS_FILE).write_bytes(
        b'{"pair": 0, "answer": "left"}\n\xff\xfe\n{"pair": 1, "answer": "left"}\n'
    )
    with pytest.raises(BadInput, match="line 2"):
        comparisons.read_answers(folder, 20)
    with np.load(folder / comparisons.CLIPS) as file:
        np.savez(folder / comparisons.CLIPS, **{**file, "facts": json.dumps({"env": "line"})})
    with pytest.raises(BadInput, match="damaged"):
        comparisons.read_clips(folder)
    (folder / comparisons.CLIPS).write_bytes(b"PK nothing")
    with pytest.raises(BadInput, match="damaged"):
        comparisons.read_clips(folder)


def test_a_dial_that_the_clips_do_not_say_is_one_line(folder):
    with np.load(folder / comparisons.CLIPS) as file:
        arrays = dict(file)
    facts = {**json.loads(str(arrays["facts"])), "env": "lane_keep", "world": {"noise": 0.0}}
    np.savez(folder / comparisons.CLIPS, **{**arrays, "facts": json.dumps(facts)})
    clips.check_flags(folder, {"env": "lane_keep", "pairs": 20}, ())
    with pytest.raises(BadInput, match=r"do not say their friction; nearest: no --world=friction"):
        clips.check_flags(folder, {}, ["friction=0.5"])
    with pytest.raises(BadInput, match=r"not 0.5; nearest: --world=noise=0.0"):
        clips.check_flags(folder, {}, ["noise=0.5"])
    with pytest.raises(BadInput, match=r"not 4; nearest: --pairs=20"):
        clips.check_flags(folder, {"pairs": 4}, ())


def test_a_reward_is_learned_from_the_file(folder, quick_compilation):
    """Whoever labels by x gets a reward that rises with x."""
    _, arrays = comparisons.read_clips(folder)
    x = arrays["observation"][:, 0, 0]
    labelling = server.Labelling(folder)
    for pair, (one, two) in enumerate(arrays["pairs"]):
        assert labelling.answer(pair, "left" if x[one] > x[two] else "right")
    held = comparisons.read(folder, LEAST_LABELS)
    small = {
        "worlds": 8,
        "unroll": 8,
        "minibatches": 2,
        "bc_steps": 5,
        "rounds": 1,
        "policy_delay": 0,
    }
    small |= {
        "hidden": (4,),
        "value_hidden": (4,),
        "reward_hidden": (8,),
        "members": 1,
        "reward_steps": 300,
    }
    config = rlhf.Config(teacher="human", reward_learning_rate=1e-2, **small)
    from irl_bench.core.types import Task
    from irl_bench.rollouts.evaluation import collect

    world = Line()
    spec = Spec(world, 16, 4, 8)
    handed_on = donor.rebuild(held, ("comparisons",), spec)
    learner = rlhf.make(dataclasses.replace(spec, donor=handed_on.donor), config)
    assert learner.consumes.preference_labels == 20 and learner.reward_fn
    judged = 2 * 16 * 500  # one candidate, for there is one round
    assert (
        learner.consumes.env_steps == 8 * 8 + 240 + judged
    )  # the clips' rollouts are not driven again
    assert learner.consumes.expert_queries == 4 * 8 + 4 * 8
    given = jax.tree.map(lambda leaf: leaf[0], handed_on.given(range(1)))
    task = Task(collect(world, jax.random.PRNGKey(0), 4, 8), world.dials, given)
    state, _ = jax.jit(lambda key: learner.update(learner.init(key, task), task))(
        jax.random.PRNGKey(0)
    )
    places = np.zeros((2, 3), np.float32)
    places[:, 0] = -0.8, 0.8
    low, high = learner.reward_fn(
        learner.reward(state), places, np.zeros((2, 2), np.float32), places
    )
    assert high > low + 0.5


# The clips.


@pytest.fixture
def make(monkeypatch):
    """Makes clips of rollouts that are not driven; a list of them tells how often."""
    rollouts = []

    def drive(function):
        rollouts.append(function)
        return lambda key: (
            np.zeros((20, 2, 3), np.float32),
            np.zeros((20, 2, 1), np.float32),
            {"road": np.zeros((20, 2, 1), np.float32)},
        )

    monkeypatch.setattr(clips.jax, "jit", drive)
    monkeypatch.setattr(clips.jax, "device_get", lambda arrays: arrays)

    def make(out):
        clips.make_clips(out, "lane_keep", {}, 10, 2, 1, 2, 20, 0)
        return rollouts

    return make


def test_clips_are_flushed_before_they_get_their_name(make, tmp_path, monkeypatch):
    """As the audit of a power cut sees it: the file, then its name, then the folder."""
    done, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda at: (done.append("flush"), fsync(at))[1])
    monkeypatch.setattr(
        Path, "replace", lambda path, to: (done.append(Path(to).name), replace(path, to))[1]
    )
    make(tmp_path / "a")
    at = done.index(comparisons.CLIPS)
    assert done[at - 1 : at + 2] == ["flush", comparisons.CLIPS, "flush"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == [comparisons.CLIPS]
    facts, arrays = comparisons.read_clips(tmp_path / "a")
    assert facts["pairs"] == 10 and arrays["pairs"].shape == (10, 2)


def test_a_folder_of_clips_that_cannot_be_written_is_one_line(make, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"^cannot write .*clips.npz: Not a directory$"):
        make(tmp_path / "file" / "labels")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / comparisons.ANSWERS_FILE).symlink_to(tmp_path / "file")
    with pytest.raises(WriteError, match="is a link that leads out"):
        make(tmp_path / "a")
    assert len(make(tmp_path / "b")) == 2  # none for the link


# The server.


@pytest.fixture
def address(folder):
    serving, url = server.serve(server.Labelling(folder))
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield url
    serving.shutdown()
    serving.server_close()


def ask(url, body=None, host=None, **headers):
    """(status, content)"""
    headers |= {"Host": host} if host else {}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_only_who_knows_the_token_is_served(address):
    root = address.split("/", 3)
    assert ask(address)[0] == 200 and b"Which clip" in ask(address)[1]
    assert (
        ask("/".join(root[:3]) + "/")[0] == 404
        and ask("/".join(root[:3]) + "/guess/pair")[0] == 404
    )
    assert ask(address, host="evil.example")[0] == 404
    assert address.startswith("http://127.0.0.1:") and len(root[3]) > 20


def raw(address, request):
    """What the server replies to bytes; empty if it only closes the connection."""
    host, _, port = address.split("/")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_another_page_cannot_answer_even_if_it_knows_the_token(folder, address):
    body = json.dumps({"pair": 0, "answer": "left"}).encode()
    for origin in ("http://evil.example", "null", address.replace("127.0.0.1", "localhost")[:-1]):
        assert ask(address + "answer", body, Origin=origin)[0] == 404
        assert ask(address + "pair", Origin=origin)[0] == 404
    assert comparisons.read_answers(folder, 20) == {}
    ours = "/".join(address.split("/")[:3])
    assert ask(address + "answer", body, Origin=ours)[0] == 200


@pytest.mark.parametrize(
    "path", ["../", "..%2f..%2fetc/passwd", "../../../../etc/passwd", "label.html", "pair/", "//"]
)
def test_no_path_leads_to_a_file(address, path):
    root = address.split("/", 3)[3]
    host = address.split("/")[2]
    request = f"GET /{root}{path} HTTP/1.0\r\nHost: {host}\r\n\r\n"
    assert raw(address, request.encode()).startswith(b"HTTP/1.0 404")


def test_nothing_of_a_request_comes_back_in_a_header(address):
    root, host = address.split("/", 3)[3], address.split("/")[2]
    for target in (f"/{root}%0d%0aSet-Cookie:%20a=b", f"/{root}x\rSet-Cookie: a=b", "/\x00"):
        reply = raw(address, f"GET {target} HTTP/1.0\r\nHost: {host}\r\nX: \r\n\r\n".encode())
        assert b"200" not in reply.split(b"\n", 1)[0]
        assert b"Set-Cookie" not in reply.partition(b"\r\n\r\n")[0]


def test_a_deep_answer_is_none(address, capfd):
    assert ask(address + "answer", b"[" * 4000)[0] == 400
    assert "Traceback" not in capfd.readouterr().err


@contextlib.contextmanager
def room(size):
    """Files may have `size` bytes, as if the disk were full after that."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_answer_that_does_not_fit_harms_no_other(folder):
    labelling = server.Labelling(folder)
    assert labelling.answer(0, "left")
    stored = (folder / comparisons.ANSWERS_FILE).read_bytes()
    with room(len(stored) + 10), pytest.raises(WriteError, match=r"cannot write .*answers.jsonl"):
        labelling.answer(1, "right")
    assert (folder / comparisons.ANSWERS_FILE).read_bytes() == stored
    assert labelling.answer(1, "equal") and labelling.answer(2, "left")
    expected = {0: "left", 1: "equal", 2: "left"}
    assert comparisons.read_answers(folder, 20) == expected == server.Labelling(folder).answers


def test_half_an_answer_that_could_not_be_taken_back_harms_no_other(folder):
    labelling = server.Labelling(folder)
    assert labelling.answer(0, "left")
    with (folder / comparisons.ANSWERS_FILE).open("a") as file:
        file.write('{"pair": 1, "ans')
    assert labelling.answer(1, "right")
    assert comparisons.read_answers(folder, 20) == {0: "left", 1: "right"}


def test_a_full_disk_is_answered_in_one_line(folder, address, monkeypatch, capfd):
    body = json.dumps({"pair": 0, "answer": "left"}).encode()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, content = ask(address + "answer", body)
    assert status == 507 and b"answers.jsonl: No space left on device" in content
    assert comparisons.read_answers(folder, 20) == {}
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "the answer is not stored: cannot write" in said
    assert ask(address + "answer", body)[0] == 200
    (folder / comparisons.ANSWERS_FILE).unlink()
    (folder / comparisons.ANSWERS_FILE).mkdir()
    assert ask(address + "answer", body)[0] == 507
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_that_cannot_be_read_is_one_line(address, monkeypatch, capfd):
    monkeypatch.setattr(server, "PAGE", Path("/nothing"))
    root, host = address.split("/", 3)[3], address.split("/")[2]
    assert raw(address, f"GET /{root} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode()) == b""
    assert capfd.readouterr().err == "a request of the page failed: No such file or directory\n"


def test_an_answer_that_never_arrives_gets_a_reply(request, monkeypatch, capfd):
    monkeypatch.setattr(server, "PATIENCE", 0.2)
    address = request.getfixturevalue("address")
    root, host = address.split("/", 3)[3], address.split("/")[2]
    head = f"POST /{root}answer HTTP/1.0\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n"
    with socket.create_connection((host.split(":")[0], int(host.split(":")[1])), 10) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.0 408")
    assert capfd.readouterr().err == "an answer did not arrive: timed out\n"


def test_answers_that_are_a_link_out_of_the_folder_are_refused(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine"
    elsewhere.write_text("mine")
    (folder / comparisons.ANSWERS_FILE).symlink_to(elsewhere)
    with pytest.raises(ValueError, match="is a link that leads out of the folder"):
        server.Labelling(folder)
    assert elsewhere.read_text() == "mine"


def test_answers_are_stored_at_once_and_nonsense_is_not(folder, address):
    first = json.loads(ask(address + "pair")[1])
    assert first["pair"] == 0 and first["of"] == 20 and len(first["clips"]) == 2
    status, content = ask(address + "answer", json.dumps({"pair": 0, "answer": "left"}).encode())
    assert status == 200 and json.loads(content)["pair"] == 1
    assert comparisons.read_answers(folder, 20) == {0: "left"}
    nonsense = (
        {},
        {"pair": 77, "answer": "left"},
        {"pair": 1, "answer": "up"},
        {"pair": True, "answer": "left"},
    )
    for body in (*(json.dumps(one).encode() for one in nonsense), b"x", b"x" * 9999):
        assert ask(address + "answer", body)[0] == 400
    assert comparisons.read_answers(folder, 20) == {0: "left"}


def test_an_answer_that_does_not_fit_on_the_disk_spoils_no_other(folder, address, monkeypatch):
    """Half a line is written, as when the disk is full."""
    left = [json.dumps({"pair": pair, "answer": "left"}).encode() for pair in range(3)]
    assert ask(address + "answer", left[0])[0] == 200
    sync = os.fsync

    def full(descriptor):
        os.write(descriptor, b'{"pair": 1, "an')
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(server.os, "fsync", full)
    status, told = ask(address + "answer", left[1])
    assert status == 507 and told.endswith(b"answers.jsonl: No space left on device\n")
    monkeypatch.setattr(server.os, "fsync", sync)
    assert ask(address + "answer", left[2])[0] == 200
    assert comparisons.read_answers(folder, 20) == {0: "left", 2: "left"}


def test_a_length_of_many_digits_gets_an_answer(address):
    host, port = address.split("/")[2].split(":")
    path = "/" + address.split("/", 3)[3] + "answer"
    with socket.create_connection((host, int(port)), timeout=10) as line:
        line.sendall(
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Length: {'9' * 5000}\r\n\r\n".encode()
        )
        assert line.recv(100).split()[1] == b"400"


# The page.

DRIVER = """<script>
const wait = ms => new Promise(done => setTimeout(done, ms));
addEventListener("load", async () => {
  const broken = []; addEventListener("error", e => broken.push(String(e.message)));
  const until = async test => { for (let i = 0; i < 200 && !test(); i++) await wait(20); };
  await until(() => document.body.dataset.pair !== undefined);
  const seen = [document.body.dataset.pair];
  let painted = false;
  for (let i = 0; i < COUNT && document.body.dataset.pair !== "none"; i++) {
    await wait(120);
    const canvas = document.querySelector("canvas");
    painted = painted || canvas.getContext("2d").getImageData(0, 0, 640, 480).data.some(v => v);
    const before = document.body.dataset.pair, kind = i % 6;
    if (kind < 4) document.getElementById(["left", "right", "equal", "clip-right"][kind]).click();
    else document.dispatchEvent(new KeyboardEvent("keydown", { key: ["ArrowLeft", "s"][kind - 4], bubbles: true }));
    await until(() => document.body.dataset.pair !== before);
    seen.push(document.body.dataset.pair);
  }
  document.title = JSON.stringify({ seen, painted, broken, wide: document.scrollingElement.scrollWidth <= innerWidth,
    text: document.getElementById("progress").textContent, problem: document.getElementById("problem").textContent });
});
</script></head>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_twenty_pairs_in_a_browser_by_clicks_and_keys_with_an_interruption(
    folder, monkeypatch, tmp_path
):
    text = server.PAGE.read_text(encoding="utf-8")
    found = []
    for run, count in enumerate((8, 20)):  # the server ends after eight and is started again
        page = tmp_path / f"page{run}.html"
        page.write_text(
            text.replace("</head>", DRIVER.replace("COUNT", str(count)), 1), encoding="utf-8"
        )
        monkeypatch.setattr(server, "PAGE", page)
        serving, url = server.serve(server.Labelling(folder))
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        command = [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            f"--user-data-dir={tmp_path / f'profile{run}'}",
            "--virtual-time-budget=60000",
            "--dump-dom",
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        serving.shutdown()
        serving.server_close()
        title = done.stdout.split("<title>", 1)[1].split("</title>", 1)[0]
        found.append(json.loads(title.replace("&quot;", '"').replace("&amp;", "&")))
    assert found[0]["seen"] == [str(i) for i in range(9)]
    assert (
        found[1]["seen"] == [*(str(i) for i in range(8, 20)), "none"]
        and "20 of 20" in found[1]["text"]
    )
    assert all(
        one["painted"] and one["wide"] and not one["broken"] and not one["problem"] for one in found
    )
    words = ["left", "right", "equal", "right", "left", "skip"]
    expected = [words[i % 6] for i in range(8)] + [words[i % 6] for i in range(12)]
    assert comparisons.read_answers(folder, 20) == dict(enumerate(expected))
    assert comparisons.read(folder, LEAST_LABELS).config["answers"] == sum(
        word != "skip" for word in expected
    )


@pytest.mark.slow
def test_the_program_makes_clips_serves_them_and_rlhf_trains_from_the_answers(tmp_path):
    out = tmp_path / "labels"
    line = [
        sys.executable,
        ROOT / "launch/label.py",
        "--pairs=12",
        "--demos=4",
        "--demo_steps=100",
        "--steps=100",
        f"--out={out}",
    ]
    program = subprocess.Popen(
        line, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        assert program.stdout
        url = next(text.split()[1] for text in program.stdout if text.startswith("open "))
        for pair in range(12):
            assert (
                ask(
                    url + "answer",
                    json.dumps({"pair": pair, "answer": "left" if pair % 2 else "right"}).encode(),
                )[0]
                == 200
            )
    finally:
        program.terminate()
        program.wait(30)
        program.stdout.close()
    for flag, words in (
        ("--pairs=20", "nearest: --pairs=12"),
        ("--world=friction=0.5", "nearest: --world=friction=1.0"),
    ):
        done = subprocess.run(
            [sys.executable, ROOT / "launch/label.py", flag, f"--out={out}"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1
    asked = (
        "--algo=rlhf",
        "--env=lane_keep",
        "--budget=smoke",
        "--rlhf.teacher=human",
        "--seeds=2",
    )
    sweep = [
        sys.executable,
        ROOT / "launch/sweep.py",
        *asked,
        f"--given={out}",
        f"--out={tmp_path / 'run'}",
    ]
    done = subprocess.run(sweep, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

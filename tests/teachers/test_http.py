import datetime
import email.utils
import json
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from limbeck.errors import LimbeckError, UserError
from limbeck.task import Problem
from limbeck.teachers.http import Http
from limbeck.testing import check_teacher
from limbeck.types import Axis, Rows

HEADER = "Inference-Header-Content-Length"
DTYPES = {"FP32": "<f4", "INT64": "<i8", "FP64": "<f8"}
N = 20
X = np.random.default_rng(0).normal(size=N)
TITLES = ["a", "", "帽子", *("x" * i for i in range(N - 3))]


def wanted(price, title, stock):
    """Two numbers a row, of numbers, texts and integers."""
    return np.stack([price + [len(t) for t in title], 2.0 * stock], 1)


WANTED = wanted(X, TITLES, np.arange(N))


class Server:
    """An Open Inference Protocol server in a thread, which can be told to misbehave."""

    def __init__(self):
        self.datatype, self.shape = "FP32", [-1, 2]
        self.reset()
        paths = [("/v2/models/m", self.metadata), ("/v2/models/m/versions/3", self.metadata)]
        posts = [(f"{path}/infer", self.infer) for path, _ in paths]
        routes = [Route(p, f) for p, f in paths] + [Route(p, f, methods=["POST"]) for p, f in posts]
        config = uvicorn.Config(Starlette(routes=routes), port=0, log_level="error", lifespan="off")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def reset(self):
        self.failures, self.seen, self.change = [], [], lambda answer: answer
        self.datatype, self.shape, self.force_json = "FP32", [-1, 2], False

    async def metadata(self, request):
        self.seen.append(dict(request.headers))
        inputs = [
            {"name": "price", "datatype": "FP32", "shape": [-1, 1]},
            {"name": "title", "datatype": "BYTES", "shape": [-1]},
            {"name": "stock", "datatype": "INT64", "shape": [-1, 1]},
        ]
        outputs = [
            {"name": "rank", "datatype": "INT64", "shape": [-1]},
            {"name": "y", "datatype": self.datatype, "shape": self.shape},
        ]
        return JSONResponse({"name": "m", "versions": ["3"], "inputs": inputs, "outputs": outputs})

    async def infer(self, request):
        body = await request.body()
        self.seen.append(dict(request.headers))
        if self.failures:
            return await run_in_threadpool(self.failures.pop(0))
        cut = int(request.headers.get(HEADER, len(body)))
        said = json.loads(body[:cut])
        fed = {}
        for given in said["inputs"]:
            size = given.get("parameters", {}).get("binary_data_size", 0)
            fed[given["name"]] = self.values(given, body[cut : cut + size])
            cut += size
        y = wanted(fed["price"].ravel(), fed["title"].ravel(), fed["stock"].ravel())
        y = y.astype(DTYPES[self.datatype])
        binary = said["outputs"][0]["parameters"]["binary_data"] and not self.force_json
        return self.change(self.answer(y, binary))

    @staticmethod
    def values(given, blob):
        if "data" in given:
            flat = np.array(given["data"], object if given["datatype"] == "BYTES" else DTYPES[given["datatype"]])
        elif given["datatype"] == "BYTES":
            texts, at = [], 0
            while at < len(blob):
                size = int.from_bytes(blob[at : at + 4], "little")
                texts.append(blob[at + 4 : at + 4 + size].decode())
                at += 4 + size
            flat = np.array(texts, object)
        else:
            flat = np.frombuffer(blob, DTYPES[given["datatype"]])
        return flat.reshape(given["shape"])

    def answer(self, y, binary):
        told = {"name": "y", "shape": list(y.shape), "datatype": self.datatype}
        if not binary:
            return JSONResponse({"model_name": "m", "outputs": [{**told, "data": y.ravel().tolist()}]})
        blob = y.tobytes()
        head = json.dumps({"outputs": [{**told, "parameters": {"binary_data_size": len(blob)}}]}).encode()
        return Response(head + blob, headers={HEADER: str(len(head))}, media_type="application/octet-stream")


@pytest.fixture(scope="module")
def running():
    server = Server()
    yield server
    server.server.should_exit = True
    server.thread.join(5)


@pytest.fixture
def server(running, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running.reset()
    return running


@pytest.fixture
def waits(monkeypatch):
    """The pauses it takes, which take no time here."""
    taken = []
    monkeypatch.setattr("limbeck.teachers.http.time.sleep", taken.append)
    return taken


def problem(labels=("no", "yes")):
    columns = {"price": X, "title": TITLES, "stock": np.arange(N), "name": TITLES}
    rows = Rows(pa.table(columns), np.arange(N), "shop")
    return Problem(rows, rows, rows, Axis("label", labels), tuple(columns))


def ask(server, **settings):
    return Http(**{"url": server.url, "model_name": "m", **settings}).open(problem(), None)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("batch", [256, 7, 1])
def test_answers_are_the_functions_own(server, binary, batch):
    teacher = ask(server, binary=binary, rows_per_request=batch)
    said = teacher(problem().test.batch())
    assert np.allclose(said["logits"], WANTED, atol=1e-5)
    assert len(server.seen) - 1 == -(-N // batch)
    assert (HEADER.lower() in server.seen[-1]) == binary
    assert teacher(problem().test.slice(0, 0).batch())["logits"].shape == (0, 2)


def test_it_keeps_the_promises_of_a_teacher(server):
    check_teacher(ask(server, rows_per_request=3), problem().test.slice(0, 8))


@pytest.mark.parametrize("datatype", ["FP64", "FP32"])
def test_json_answers_to_binary_questions_are_read_too(server, datatype):
    server.datatype, server.force_json = datatype, True
    assert np.allclose(ask(server)(problem().test.batch())["logits"], WANTED, atol=1e-5)


def test_columns_may_have_other_names_and_versions_other_addresses(server):
    plan = {"price": "price", "title": "name", "stock": "stock"}
    teacher = ask(server, inputs=plan, version="3", output="y", classes=("yes", "no"))
    assert teacher.reads == ("price", "name", "stock")
    assert np.allclose(teacher(problem().test.batch())["logits"], WANTED[:, ::-1], atol=1e-5)


def refuse(status, **headers):
    return lambda: JSONResponse({"error": "busy"}, status, headers)


def test_overload_is_waited_out(server, waits):
    teacher = ask(server)
    server.failures = [refuse(503, **{"Retry-After": "7"}), refuse(429), refuse(503)]
    assert np.allclose(teacher(problem().test.batch())["logits"], WANTED, atol=1e-5)
    assert waits == [7.0, 0.5, 1.0]


def test_retry_after_may_be_a_date(server, waits):
    later = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(seconds=30)
    teacher = ask(server)
    server.failures = [refuse(503, **{"Retry-After": email.utils.format_datetime(later, usegmt=True)})]
    teacher(problem().test.batch())
    assert len(waits) == 1
    assert 25 < waits[0] <= 30


def test_patience_ends(server, waits):
    teacher = ask(server, retries=2)
    server.failures = [refuse(503)] * 3
    with pytest.raises(LimbeckError, match=r"is overloaded \(503\)"):
        teacher(problem().test.batch())
    assert waits == [0.25, 0.5]
    server.failures = [refuse(429, **{"Retry-After": "3600"})]
    with pytest.raises(LimbeckError, match="asks to wait 3600 s"):
        teacher(problem().test.batch())


def test_a_hang_ends_at_the_timeout(server):
    teacher = ask(server, timeout=0.2)
    server.failures = [lambda: (time.sleep(0.6), JSONResponse({}))[1]]
    with pytest.raises(UserError, match=r"no answer within 0\.2 s"):
        teacher(problem().test.batch())


def test_nobody_there_is_said_in_words(waits):
    with pytest.raises(UserError, match=r"cannot be reached .*; is it running\?"):
        Http(url="http://127.0.0.1:9", model_name="m", retries=1).open(problem(), None)
    assert waits == [0.25]


@pytest.mark.parametrize(("status", "error"), [(400, UserError), (404, UserError), (500, LimbeckError)])
def test_refusals_carry_the_servers_words_cleaned(server, status, error):
    teacher = ask(server)
    server.failures = [lambda: JSONResponse({"error": "\x1b[31mno\nway" + "y" * 999}, status)]
    with pytest.raises(error) as caught:
        teacher(problem().test.batch())
    assert (type(caught.value), caught.value.exit_code) == (error, 2 if error is UserError else 1)
    assert f"answered {status}:  [31mno way" in str(caught.value)
    assert len(str(caught.value)) < 350
    server.failures = [lambda: Response(b"<html>", status)]
    with pytest.raises(error, match="no reason given"):
        teacher(problem().test.batch())


def broken(**changes):
    """An otherwise sound JSON answer."""
    output = {"name": "y", "shape": [N, 2], "datatype": "FP32", "data": [0.0] * (2 * N), **changes}
    return lambda: JSONResponse({"outputs": [output]})


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (broken(shape=[N, 3], data=[0.0] * 3 * N), "axis 1 of the answer is 3, not 2"),
        (broken(shape=[N - 1, 2], data=[0.0] * 2 * (N - 1)), r"answered \(19, 2\) numbers to 20 rows"),
        (broken(data=[0.0]), "do not fill its shape"),
        (broken(data=None), "do not fill its shape"),
        (broken(data=["x"] * 2 * N), "do not fill its shape"),
        (broken(datatype="INT64"), "answered 'y' as INT64"),
        (broken(name="z"), "left out the output 'y'"),
        (broken(shape="x"), "without sound 'outputs'"),
        (broken(parameters={"binary_data_size": 160}), "promised 160 bytes of tensors and sent 0"),
        (lambda: Response(b'{"outputs": [{"name": "y", "shape": [20, 2], "datatype": "FP32", "data": [NaN'
                          + b", 0" * 39 + b"]}]}"), "1 of 40 numbers are NaN"),
        (lambda: Response(b"[" * 100_000), "something else than a JSON object"),
        (lambda: Response(b"{}", headers={HEADER: "99"}), f"header {HEADER} '99' to a body of 2 bytes"),
        (lambda: Response(b"{}", headers={HEADER: "-1"}), "header"),
        (lambda: JSONResponse({"outputs": []}), "without sound 'outputs'"),
    ],
)  # fmt: skip
def test_answers_that_are_not_sound_are_refused_in_words(server, failure, words):
    teacher = ask(server)
    server.failures = [failure]
    with pytest.raises(UserError, match=words):
        teacher(problem().test.batch())


def test_left_over_bytes_are_refused(server):
    teacher = ask(server)
    server.change = lambda answer: Response(answer.body + b"!", headers={HEADER: answer.headers[HEADER]})
    with pytest.raises(UserError, match="promised 160 bytes of tensors and sent 161"):
        teacher(problem().test.batch())


def test_secrets_come_from_the_environment_and_stay_out_of_sight(server, monkeypatch):
    monkeypatch.setenv("SHOP_TOKEN", "hush")
    monkeypatch.setenv("SHOP_KEY", "hush2")
    teacher = ask(server, token_env="SHOP_TOKEN", headers_env={"X-Key": "SHOP_KEY"})
    teacher(problem().test.batch())
    assert [(seen["authorization"], seen["x-key"]) for seen in server.seen] == [("Bearer hush", "hush2")] * 2
    assert "hush" not in repr(teacher) + repr(vars(teacher.service)) + teacher.fingerprint
    assert teacher.fingerprint == ask(server).fingerprint
    monkeypatch.delenv("SHOP_TOKEN")
    with pytest.raises(UserError, match="variable 'SHOP_TOKEN' is not set"):
        ask(server, token_env="SHOP_TOKEN")


def test_the_fingerprint_is_of_what_is_asked_and_not_of_how(server):
    first = ask(server).fingerprint
    assert ask(server, rows_per_request=3, binary=False, retries=0, timeout=9.0).fingerprint == first
    others = {ask(server, revision="2").fingerprint, ask(server, version="3").fingerprint}
    server.datatype = "FP64"
    assert len({first, *others, ask(server).fingerprint}) == 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"url": "ftp://x"}, "'url' must look like"),
        ({"url": "http://me:hush@x"}, "'url' must look like"),
        ({"url": "http://[::1"}, "'url' must look like"),
        ({"model_name": "../admin"}, "model_name is '../admin'"),
        ({"version": "1/2"}, "version is '1/2'"),
        ({"rows_per_request": 0}, "rows_per_request must be 1 or more"),
        ({"inputs": {"price": "price"}}, "its inputs are 'price', 'title', 'stock', 'inputs' names 'price'"),
        ({"inputs": {"price": "sku", "title": "title", "stock": "stock"}}, "no column 'sku'"),
        ({"output": "rank"}, "no output 'rank' of floats; there are: 'y'"),
        ({"classes": ("no", "maybe")}, "unknown to the task: 'maybe'"),
        ({"model_name": "other"}, "answered 404"),
    ],
)
def test_settings_that_do_not_fit_are_refused_at_once(server, settings, words):
    with pytest.raises(UserError, match=words) as caught:
        ask(server, **settings)
    assert "hush" not in str(caught.value)


def test_columns_that_do_not_fit_their_input_are_refused(server):
    with pytest.raises(UserError, match="column 'title' for input 'price': the column holds text"):
        ask(server, inputs={"price": "title", "title": "title", "stock": "stock"})(problem().test.batch())
    with pytest.raises(UserError, match="holds numbers that int64 cannot"):
        ask(server, inputs={"price": "price", "title": "title", "stock": "price"})(problem().test.batch())


def test_metadata_of_another_width_is_refused_before_any_row_is_sent(server):
    server.shape = [-1, 5]
    with pytest.raises(UserError, match="axis 1 of 'y' is 5, not 2, the labels of the task"):
        ask(server)
    assert len(server.seen) == 1


def test_nan_cannot_be_sent_as_json(server):
    rows = Rows(pa.table({"price": [float("nan")], "title": ["a"], "stock": [1]}), np.arange(1), "shop")
    with pytest.raises(UserError, match="set binary to true"):
        ask(server, binary=False)(rows.batch())

"""agent.detectors.pii.model and .model_process: a real spaCy pipeline, made here, through Presidio's own configuration."""

import io
import json
import subprocess
import sys

import msgspec
import pytest
import spacy

from agent.config import Problems
from agent.detectors.pii import model_process
from agent.detectors.pii.config import ModelConfig, PiiConfig
from agent.detectors.pii.detector import PiiDetector
from agent.detectors.pii.model import OVERLAP_CHARACTERS, PIECE_CHARACTERS, ModelClient, cuts
from agent.detectors.pii.model_process import ModelSettings, frames, write_frame
from agent.engine import Engine
from agent.model import Event, GenAiOperation, LogRecord, Message, Sensitive


@pytest.fixture(scope="module")
def configuration(tmp_path_factory):
    """A pipeline that knows two names: small, and loaded as any other."""
    folder = tmp_path_factory.mktemp("model")
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": "Thandi Nkosi"}, {"label": "GPE", "pattern": "Durban"}])
    nlp.to_disk(folder / "names")
    file = folder / "nlp.yaml"
    file.write_text(
        json.dumps({"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": str(folder / "names")}]})
    )
    return file


@pytest.fixture(scope="module")
def detector(configuration):
    made = PiiDetector(PiiConfig(model=ModelConfig(nlp_configuration=configuration)))
    yield made
    made.close()


def found(detector, text, direction):
    scan = detector.scan(text, direction)
    assert scan.unscanned == ""
    return sorted((one.entity, text[one.start : one.end]) for one in scan.matches)


def test_prompts_and_completions_are_given_to_the_model_and_logs_are_not(detector):
    text = "yesterday thandi met Thandi Nkosi in Durban"
    expected = [("LOCATION", "Durban"), ("PERSON", "Thandi Nkosi")]
    assert found(detector, text, "prompt") == expected
    assert found(detector, text, "completion") == expected
    assert found(detector, text, "log") == []


def test_a_long_text_is_cut_and_nothing_is_lost_at_the_cuts(detector):
    for at in range(PIECE_CHARACTERS - OVERLAP_CHARACTERS - 20, PIECE_CHARACTERS + 10, 3):
        text = ("word " * 400)[:at] + " Thandi Nkosi " + "word " * 400
        assert found(detector, text, "prompt") == [("PERSON", "Thandi Nkosi")]
    assert cuts(0) == [(0, 0)]
    assert cuts(PIECE_CHARACTERS + 1)[-1][1] == PIECE_CHARACTERS + 1


def test_the_texts_of_an_event_go_to_the_model_in_one_batch(configuration, monkeypatch):
    detector = PiiDetector(PiiConfig(model=ModelConfig(nlp_configuration=configuration)))
    asked = []
    original = detector._model._asked
    monkeypatch.setattr(detector._model, "_asked", lambda texts: (asked.append(len(texts)), original(texts))[1])
    engine = Engine(text_detectors=[detector], fingerprint_key=b"k" * 32)
    messages = tuple(
        Message(role=role, text=Sensitive(f"{number} of Thandi Nkosi"))
        for number, role in enumerate(("user", "assistant", "user"))
    )
    event = Event(id="1", source="x", body=GenAiOperation(operation="chat", messages=messages))
    evaluation = engine.evaluate(event)
    assert [one.entity for one in evaluation.findings] == ["PERSON"] * 3
    assert asked == [3]
    assert engine.evaluate(Event(id="2", source="x", body=LogRecord(text=Sensitive("Thandi Nkosi")))).findings == ()
    assert asked == [3]
    detector.close()


def test_a_model_that_dies_is_started_again_and_one_that_cannot_is_told(configuration):
    client = ModelClient(ModelConfig(nlp_configuration=configuration))
    client._process.kill()
    client._process.wait()
    assert [one.entity for one in client.scan("Thandi Nkosi").matches] == ["PERSON"]
    assert client.restarts == 1
    client.close()
    client._start = lambda: "gone for good"
    assert client.scan("another Thandi Nkosi").unscanned == "model_failed"
    assert client.scan("x" * 200_000).unscanned == "model_text_too_long"


def test_over_its_memory_limit_the_process_ends_after_the_answer(configuration):
    settings = ModelSettings(str(configuration), "", "en", ("PERSON",), 4, 1)
    source = io.BytesIO()
    for texts in (["Thandi Nkosi"], ["never read"]):
        write_frame(source, msgspec.msgpack.encode(texts))
    program = [sys.executable, "-I", model_process.__file__, msgspec.json.encode(settings).decode()]
    done = subprocess.run(program, input=source.getvalue(), capture_output=True, check=True)
    ready, answer = frames(io.BytesIO(done.stdout))
    assert msgspec.msgpack.decode(ready) == ""
    assert msgspec.msgpack.decode(answer) == [[["PERSON", 0, 12, 0.85]]]


def test_a_missing_model_is_a_problem_with_its_place_and_nothing_is_downloaded(tmp_path):
    file = tmp_path / "nlp.yaml"
    file.write_text('{"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": "en_core_web_lg"}]}')
    with pytest.raises(Problems, match="en_core_web_lg is not installed") as error:
        ModelClient(ModelConfig(nlp_configuration=file))
    assert str(file) in str(error.value)

"""The formats of suites and studies: schemas of the package are the code's, and say of files what the parsers say."""

import tomllib

import jsonschema
import pytest

from mann_bench.data.formats import case_fields, format_file
from mann_bench.data.toml_files import load_text, shipped_names
from mann_bench.learn.study import FOLDER, SETTINGS
from tests.published.formats import FORMATS, schema_text

START = {"suite": "", "study": FOLDER}  # where the files of the package are
SUITE = (
    'name = "s"\n[fixed]\nsteps = 5\n[[sweep]]\nmodels = ["sam"]\nslots = ["64", "1k"]\noptions = { erase = ["always"], sam = { a = 1 } }\n'
)
STUDY = (
    'name = "s"\nmodels = ["sam"]\n[[task]]\ntask = "copy"\nlevels = [1, 2]\nseconds = "10m"\n[grid]\nlearning_rate = [1e-3]\n'
    'options = { erase = ["always"] }\n[selection]\nseeds = [7]\n[report]\nseeds = "0-2"\n'
)


def problems(kind, text):
    validator = jsonschema.Draft7Validator(FORMATS[kind]())
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_files_of_the_package_are_what_the_code_gives(kind):
    assert format_file(kind).read_text() == schema_text(kind), "run `make numbers`"
    jsonschema.Draft7Validator.check_schema(FORMATS[kind]())


@pytest.mark.parametrize("kind", FORMATS)
def test_all_that_is_shipped_keeps_to_its_format(kind):
    texts = {name: load_text(kind, name, START[kind]) for name in shipped_names(START[kind])}
    texts["start"] = format_file(kind).with_name(f"{kind}-start.toml").read_text()
    assert len(texts) > 4
    assert {name: problems(kind, text) for name, text in texts.items()} == {name: [] for name in texts}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        ("suite", "steps = 5", "stpes = 5"),
        ("suite", "steps = 5", "steps = 0"),
        ("suite", "steps = 5", 'steps = "many"'),
        ("suite", "steps = 5", "steps = []"),
        ("suite", "steps = 5", 'mode = "dream"'),
        ("suite", "steps = 5", "[budget]\nmemory = 1.5"),
        ("suite", "steps = 5", "[budget]\nrounds = 0"),
        ("suite", '["64", "1k"]', '["64q"]'),
        ("suite", 'name = "s"', 'name = "../s"'),
        ("suite", 'name = "s"', 'name = "s"\ninterleave = ["colour"]'),
        ("suite", '["always"]', "[[1]]"),
        ("study", "levels = [1, 2]", "levels = [1]"),
        ("study", "levels = [1, 2]", 'sequences = "x"'),
        ("study", '"10m"', '"10 days"'),
        ("study", 'task = "copy"\n', ""),
        ("study", "[1e-3]", "1e-3"),
        ("study", "learning_rate", "goal"),
        ("study", '"0-2"', '"all"'),
        ("study", "seeds = [7]", 'seeds = [7]\nby = "luck"'),
    ],
)
def test_a_mistake_is_marked(kind, old, new):
    text = {"suite": SUITE, "study": STUDY}[kind]
    assert old in text
    assert problems(kind, text) == []
    assert problems(kind, text.replace(old, new))


def test_every_field_has_a_meaning():
    for name, field in case_fields().items():
        assert field["description"], name
    arms = FORMATS["study"]()["properties"]["arm"]["items"]["properties"]
    assert set(arms) < {"name", "models", "grid", *SETTINGS}
    assert all(field["description"] for field in arms.values())

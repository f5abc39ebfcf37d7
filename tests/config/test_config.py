"""config.yaml: what is allowed, and one clear message for everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import EXPERIMENTS, TINY, edit_config, make_run, tiny, tree, volume_configs
from hypothesis import given, settings
from hypothesis import strategies as st

import minima_volume as mv
from minima_volume.config.run import Gaussian, Perturbation, load_config, parse_config
from minima_volume.config.sections import Execution
from minima_volume.errors import ConfigError, MinimaVolumeError, MissingStageError, StaleError
from minima_volume.files.yaml import read_yaml, write_yaml
from minima_volume.stages.open import parse_override
from minima_volume.stages.run import read_run

# override -> what the message must say: the key, the value, what is allowed
BAD_VALUES = [
    ({"training.epohs": 10}, ["training.epohs", "unknown key", "did you mean epochs?", "allowed: loss, epochs"]),
    ({"perturbation.coefficients.maximum": 1.0}, ["perturbation.coefficients.maximum", "allowed: max, count, power"]),
    ({"perturb.shards": 1}, ["perturb: unknown key", "did you mean perturbation?", "allowed: experiment, seeds"]),
    ({"training.epochs": "10"}, ["training.epochs", "'10'", "integer"]),
    ({"training.epochs": True}, ["training.epochs", "True", "integer"]),
    ({"training.epochs": 2.5}, ["training.epochs", "2.5", "integer"]),
    ({"training.epochs": 0}, ["training.epochs", "0 is not allowed", "greater than or equal to 1"]),
    ({"training.learning_rate": "fast"}, ["training.learning_rate", "'fast'", "number"]),
    ({"training.learning_rate": -1.0}, ["training.learning_rate", "-1.0", "greater than 0"]),
    ({"training.learning_rate": float("inf")}, ["training.learning_rate", "inf", "finite"]),
    ({"training.optimizer": "adam"}, ["training.optimizer", "'adam'", "'adamw' or 'sgd'"]),
    ({"training.betas": [0.9]}, ["training.betas", "[0.9]", "at least 2"]),
    ({"data.base_size": 0}, ["data.base_size", "0 is not allowed", "greater than or equal to 1"]),
    ({"data.levels": []}, ["data.levels", "[]", "at least 1"]),
    ({"data.levels": [0, -1]}, ["data.levels.1", "-1", "greater than or equal to 0"]),
    ({"data.levels": [0, 5, 5]}, ["data.levels", "[0, 5, 5]", "each once"]),
    ({"data.variant": "poisoned"}, ["data.variant", "'poisoned'", "'data', 'poison' or 'noise'"]),
    ({"volume.loss_thresholds": [0.5, 0]}, ["volume.loss_thresholds.1", "0 is not allowed", "greater than 0"]),
    ({"volume.loss_thresholds": [0.5, 0.5]}, ["volume", "[0.5, 0.5]", "differ"]),
    ({"volume.loss_thresholds": [0.5, 0.50000001]}, ["volume", "loss_thresholds", "differ"]),
    ({"volume.accuracy_thresholds": [0.9]}, ["accuracy_thresholds has 1 values", "loss_thresholds 2", "paired"]),
    ({"volume.accuracy_thresholds": [0.9, 90]}, ["volume.accuracy_thresholds.1", "90", "less than or equal to 1"]),
    ({"volume.headline_threshold": 0.3}, ["headline_threshold 0.3", "one of loss_thresholds [0.5, 0.2]"]),
    ({"perturbation.max_coefficient": 0.5}, ["max_coefficient 0.5", "at least coefficients.max 1"]),
    ({"perturbation.scaling": "filters"}, ["perturbation.scaling", "'filters'", "'filter', 'none', 'layer'"]),
    ({"experiment.device": "gpu"}, ["experiment.device", "'gpu'", "cpu, cuda"]),
    ({"experiment.device": "cudafoo"}, ["experiment.device", "'cudafoo'", "cpu, cuda"]),
    ({"experiment.device": "cuda:-1"}, ["experiment.device", "'cuda:-1'", "cuda:<index>"]),
    ({"seeds.perturbation": -1}, ["seeds.perturbation", "-1", "greater than or equal to 0"]),
    ({"model.options": None}, ["model.options", "None", "dictionary"]),
]


@pytest.mark.parametrize(("overrides", "words"), BAD_VALUES, ids=[next(iter(case[0])) for case in BAD_VALUES])
def test_a_value_that_is_not_allowed_is_one_message(overrides, words, tmp_path):
    """The message names the file, the key, its value and what is allowed, on one line."""
    path = write_yaml(tmp_path / "config.yaml", tiny(overrides))
    with pytest.raises(ConfigError) as failure:
        load_config(path)
    message = str(failure.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message, message


def test_several_problems_are_named_together_with_the_unknown_key_first():
    """A misspelt required key is reported as what it is, not only as a missing one."""
    content = tiny({"training.epoch": 3})
    del content["training"]["epochs"]
    with pytest.raises(
        ConfigError, match=r"training\.epoch: unknown key \(did you mean epochs\?\).*training\.epochs: is missing"
    ):
        parse_config(content)


def test_numbers_are_yaml_1_2(tmp_path):
    """`1e-3` and `1E5` are numbers; a quoted "10" stays text and is refused where a number belongs."""
    text = (tmp_path / "a.yaml").with_suffix(".yaml")
    text.write_text("a: 1e-3\nb: 1E5\nc: '10'\nd: no\n", encoding="utf-8")
    assert read_yaml(text) == {"a": 1e-3, "b": 1e5, "c": "10", "d": "no"}
    assert parse_config(tiny({"training.learning_rate": 1})).training.learning_rate == 1


@pytest.mark.parametrize("text", ["a: [1\n", "a: 1\n  b: 2\n", "a: 1\na: 2\n", "\t- x"])
def test_invalid_yaml_names_the_file_and_the_line(text, tmp_path):
    """What is not YAML is one line with the file and the place."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml is not valid YAML: .*line \d") as failure:
        read_yaml(path)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "just words\n"])
def test_yaml_that_is_not_a_mapping_is_refused(text, tmp_path):
    """An empty file, a list and a text say that sections are needed."""
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"must hold sections \(experiment, data, \.\.\.\)"):
        read_yaml(path)


def test_missing_config_says_where_one_comes_from(tmp_path):
    """A folder without config.yaml points to the templates."""
    with pytest.raises(MissingStageError, match=r"config\.yaml does not exist: copy a template/ folder"):
        read_run(tmp_path)


def test_every_committed_config_is_complete_and_allowed():
    """Each config.yaml under experiments/ parses, has no seeds, and lists every section and key of the schema (not mlflow, which is off)."""
    paths = volume_configs()
    assert {path.relative_to(EXPERIMENTS).parts[0] for path in paths} >= {"digits", "swiss_roll", "MNIST"}
    for path in paths:
        config = load_config(path)
        fixed = 10 if path.parent.name == "fixed_data" else None  # one data seed for many model seeds
        assert config.seeds.model is None and config.seeds.data == fixed, path
        listed = {name: sorted(section) for name, section in read_yaml(path).items()}
        wanted = {name: sorted(section) for name, section in config.model_dump().items() if section is not None}
        wanted["experiment"].remove("allow_outside")  # nobody should find it switched on by a copy
        assert listed == wanted, path


@pytest.mark.parametrize(("dataset", "condition"), [("digits", "base"), ("swiss_roll", "x5"), ("MNIST", "base")])
def test_the_template_has_the_settings_of_its_first_condition(dataset, condition):
    """Copying the template gives the published condition."""
    template = load_config(EXPERIMENTS / dataset / "template" / "config.yaml")
    assert template == load_config(EXPERIMENTS / dataset / "low_data" / condition / "config.yaml")


def test_writing_keeps_comments_and_values(tmp_path):
    """A user's comments survive an override that is written into config.yaml."""
    path = tmp_path / "model_0_data_10" / "config.yaml"
    path.parent.mkdir()
    path.write_text((EXPERIMENTS / "digits/template/config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    before = load_config(path)
    run = mv.open_run(path.parent, stage="train", overrides={"training.epochs": 7, "training.learning_rate": 5e-4})
    text = path.read_text(encoding="utf-8")
    assert "# null: the full batch" in text and "epochs: 7" in text
    changed = {"epochs": 7, "learning_rate": 5e-4}
    assert load_config(path) == run.config
    assert run.config.training == before.training.model_copy(update=changed)
    assert (run.config.seeds.model, run.config.seeds.data) == (0, 10)
    assert run.config.perturbation == before.perturbation


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=12, unique=True))
@settings(max_examples=30, deadline=None)
def test_levels_are_sorted_as_numbers(levels):
    """The order in the file does not matter: 100 comes after 20."""
    assert parse_config(tiny({"data.levels": levels})).data.levels == sorted(levels)


@given(st.floats(0.01, 100), st.integers(2, 200), st.floats(0.5, 4))
@settings(max_examples=30, deadline=None)
def test_the_coefficient_grid_is_its_formula(largest, count, power):
    """c_k = max (k / (count - 1))^power: increasing from exactly 0 to exactly max."""
    grid = {"max": largest, "count": count, "power": power}
    config = parse_config(tiny({"perturbation.coefficients": grid, "perturbation.max_coefficient": 100.0}))
    values = config.perturbation.coefficients.values()
    assert len(values) == count and values[0] == 0 and values[-1] == pytest.approx(largest)
    assert (values[1:] > values[:-1]).all()
    k = count // 2
    assert values[k] == pytest.approx(largest * (k / (count - 1)) ** power)


def test_the_ceiling_follows_the_thresholds_unless_it_is_set():
    """Five times the largest threshold, or what the user says."""
    assert parse_config(TINY).loss_ceiling == 2.5
    assert parse_config(tiny({"perturbation.loss_ceiling": 0.7})).loss_ceiling == 0.7


# ---- seeds and folder names


def test_the_folder_name_gives_the_seeds(tmp_path):
    """model_3_data_13 is model seed 3 and data seed 13; nothing is written by only looking."""
    run = make_run(tmp_path / "model_3_data_13")
    before = tree(tmp_path)
    assert (read_run(run.folder).config.model_seed, run.config.data_seed) == (3, 13)
    assert tree(tmp_path) == before


def test_seed_zero_is_a_seed(tmp_path):
    """0 in config.yaml is not taken for "unset"."""
    with pytest.raises(ConfigError, match=r"seeds\.model = 0, but the folder's name model_3_data_13 says 3"):
        make_run(tmp_path / "model_3_data_13", {"seeds.model": 0})


def test_contradicting_seeds_say_how_to_mend_it(tmp_path):
    """A copied and renamed run whose config.yaml still has the old seeds."""
    with pytest.raises(ConfigError) as failure:
        make_run(tmp_path / "model_1_data_13", {"seeds.data": 12})
    assert "seeds.data = 12, but the folder's name model_1_data_13 says 13" in str(failure.value)
    assert "rename the folder, or set seeds.data to null" in str(failure.value)


def test_a_folder_without_seeds_needs_them_in_its_config(tmp_path):
    """The message names the folder, the key, and both ways out; with seeds in the config it opens."""
    with pytest.raises(ConfigError) as failure:
        make_run(tmp_path / "my_run")
    message = str(failure.value)
    assert "cannot read seeds from the folder name 'my_run'" in message and "seeds.model" in message
    assert "rename the folder to model_<seed>_data_<seed>, or set seeds.model" in message
    assert make_run(tmp_path / "my_run", {"seeds.model": 4, "seeds.data": 5}).config.model_seed == 4


def test_a_template_is_not_run(tmp_path, cli):
    """Running inside template/ says to copy it, and writes nothing."""
    write_yaml(tmp_path / "template" / "config.yaml", tiny())
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match=r"is a template: copy it to model_<seed>_data_<seed> .*cp -r template"):
        mv.open_run(tmp_path / "template", stage="train")
    code, _, err = cli("run", tmp_path / "template")
    assert code == 1 and err.startswith("error: ") and "is a template" in err
    assert tree(tmp_path) == before


# ---- overrides


@pytest.mark.parametrize(
    ("stage", "key", "allowed"),
    [
        ("perturb", "volume.top_k", "only execution.*, perturbation.*"),
        ("perturb", "training.epochs", "only execution.*, perturbation.*"),
        ("volume", "perturbation.num_directions", "only execution.*, volume.*"),
        ("cutoff", "volume.loss_thresholds", "nothing"),
        ("accuracy", "data.levels", "nothing"),
    ],
)
def test_a_later_notebook_overrides_only_its_own_section(stage, key, allowed, tmp_path):
    """The message names the key, the notebook and where to set it instead; config.yaml is left as it was."""
    run = make_run(tmp_path / "model_0_data_10")
    before = tree(run.folder)
    with pytest.raises(ConfigError) as failure:
        mv.open_run(run.folder, stage=stage, overrides={key: 3})
    message = str(failure.value)
    assert repr(key) in message and allowed in message and "Train Low Test Models.ipynb" in message
    assert tree(run.folder) == before


def test_overrides_are_written_for_the_later_notebooks(tmp_path):
    """What notebook 1 overrides, notebook 2 reads; what notebook 2 overrides, notebook 3 reads."""
    run = make_run(tmp_path / "model_0_data_10")
    mv.open_run(run.folder, stage="train", overrides={"training.epochs": 5})
    mv.open_run(run.folder, stage="perturb", overrides={"perturbation.num_directions": 3})
    config = mv.open_run(run.folder, stage="volume").config
    assert (config.training.epochs, config.perturbation.num_directions) == (5, 3)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"epochs": 3}, ["'epochs'", "dotted key"]),
        ({"training.epochs.more": 3}, ["'epochs' is a value, not a section"]),
        ({"training.epochs": "3"}, ["training.epochs", "'3'", "integer"]),
        ({"training.epocs": 3}, ["training.epocs", "did you mean epochs?"]),
    ],
)
def test_a_wrong_override_changes_nothing(overrides, words, tmp_path):
    """config.yaml keeps its bytes when an override is refused."""
    run = make_run(tmp_path / "model_0_data_10")
    before = tree(run.folder)
    with pytest.raises(ConfigError) as failure:
        mv.open_run(run.folder, stage="train", overrides=overrides)
    assert all(word in str(failure.value) for word in words), failure.value
    assert tree(run.folder) == before


def test_overrides_that_contradict_trained_models_are_refused(copied):
    """The setting, its two values and the way out; config.yaml is left as it was."""
    before = tree(copied.folder)
    with pytest.raises(StaleError) as failure:
        mv.open_run(copied.folder, stage="train", overrides={"training.epochs": 31})
    message = str(failure.value)
    assert "training.epochs = 30" in message and "config.yaml says 31" in message
    assert "minima-volume clean RUN --what models" in message
    assert tree(copied.folder) == before


@pytest.mark.parametrize(
    ("text", "value"),
    [("a.b=1e-3", 1e-3), ("a.b=[0, 10]", [0, 10]), ("a.b=null", None), ("a.b=x=y", "x=y"), ("a.b=", None)],
)
def test_a_command_line_override_is_yaml(text, value):
    """KEY=VALUE, split at the first equals sign."""
    assert parse_override(text) == ("a.b", value)


@pytest.mark.parametrize("text", ["training.epochs", "a.b=[1"])
def test_a_malformed_command_line_override_is_named(text):
    """The text as typed is in the message."""
    with pytest.raises(ConfigError) as failure:
        parse_override(text)
    assert repr(text) in str(failure.value)


# ---- names that config.yaml mentions


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            {"data.source": "cifar"},
            ["data.source", "'cifar'", "swiss_roll, digits, mnist, fashion_mnist", "<module>:<function>"],
        ),
        ({"model.name": "resnet"}, ["model.name", "'resnet'", "mlp, cnn", "<module>:<class>"]),
        ({"data.source": "nowhere:make"}, ["data.source", "'nowhere:make'", "looked at", "nowhere.py"]),
        ({"data.options": {"size": 3}}, ["data.options", "{'size': 3}", "'digits'"]),
        ({"model.options": {"hiden": [3]}}, ["model.options", "{'hiden': [3]}", "'mlp'"]),
        (
            {"model.name": "cnn", "model.options": {"channels": [2] * 4, "fc": []}},
            ["4 poolings", "(1, 8, 8)", "fewer channels"],
        ),
        (
            {"data.levels": [0, 2000]},
            ["data.base_size 20", "data.levels 2000", "2020 samples", "1300 training samples"],
        ),
        ({"experiment.device": "cuda:9"}, ["experiment.device", "'cuda:9'", "set it to cpu"]),
        ({"training.loss": "bce_with_logits"}, ["bce_with_logits"]),
    ],
)
def test_the_command_line_refuses_what_cannot_be_run(overrides, words, tmp_path, cli):
    """One line on standard error, exit code 1, and no half-written model."""
    run = make_run(tmp_path / "model_0_data_10", overrides)
    code, _, err = cli("run", run.folder, "--quiet")
    lines = [line for line in err.splitlines() if line]
    assert code == 1
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    assert all(word in err for word in words), err
    written = {Path(name).name for name in tree(run.folder)}
    assert written <= {"config.yaml", "dataset.pt"}


def test_every_error_is_of_one_family():
    """What the command line prints on one line is what a script can catch with one name."""
    for error in (ConfigError, MissingStageError, StaleError):
        assert issubclass(error, MinimaVolumeError)


def test_results_of_other_settings_are_never_mixed_in(copied, cli):
    """A sweep's settings changed after the sweep: the setting, both values, the way out; nothing is written."""
    edit_config(copied.folder, {"perturbation.scaling": "layer"})
    before = tree(copied.folder)
    for stage in ("perturb", "volume"):
        code, _, err = cli("run", copied.folder, "--stage", stage, "--quiet")
        assert code == 1
        assert "perturbation.scaling = 'filter'" in err and "config.yaml says 'layer'" in err
        assert "minima-volume clean RUN --what sweeps" in err
    assert tree(copied.folder) == before


def test_a_run_and_the_front_door_have_the_same_defaults():
    """What config.yaml and `measure_volume` both set starts from one value."""
    gaussian, rays = mv.Gaussian(sigma=0.1), mv.Rays()
    for key in ("num_particles", "num_repeats", "num_moves", "precision", "estimator"):
        assert getattr(Gaussian(), key) == getattr(gaussian, key)
    for key in ("scaling", "names"):
        assert getattr(Perturbation(), key) == getattr(gaussian, key) == getattr(rays, key)
    assert Perturbation().num_directions == rays.num_directions
    assert Perturbation().max_coefficient == rays.max_coefficient
    assert Execution().memory_gib == gaussian.memory_gib == rays.memory_gib

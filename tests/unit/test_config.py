"""Settings: where a value comes from when several places name one, and values that cannot be."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from indexer.config import SETTINGS, Setting, Settings, default_data_folder, load_settings
from indexer.errors import InvalidSetting
from indexer.limits import IN_FLIGHT_MAX, OBJECTS_MAX, OBJECTS_MAX_DEFAULT

BY_NAME = {setting.name: setting for setting in SETTINGS}
NUMBERS = [setting.name for setting in SETTINGS if type(setting.default) is int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of a command, beside the user's home."""
    (tmp_path / "current").mkdir()
    return tmp_path / "current"


def load(folder: Path, options: Any = (), **environment: str) -> Settings:
    home = {"XDG_CONFIG_HOME": str(folder.parent / "config")}
    return load_settings(dict(options), home | environment, folder)


def write(folder: Path, text: str, name: str = "indexer.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def samples(setting: Setting) -> list[Any]:
    """Three values that a setting can have and that are not its default."""
    if isinstance(setting.default, bool):
        return [True, True, True]
    if isinstance(setting.default, int):
        return [setting.least + step for step in (6, 7, 8)]
    others = [choice for choice in setting.choices if choice != setting.default]
    return (others * 3)[:3] or ["one", "two", "three"]


# --- where a value comes from --------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_option_then_environment_then_file_then_default(setting: Setting, folder: Path) -> None:
    option, variable, written = samples(setting)
    name = setting.name

    def value(**given: Any) -> tuple[Any, str]:
        settings = load(folder, given.get("options", {}), **given.get("environment", {}))
        return settings[name], settings.origins[name]

    if name in {"data", "cache_folder"}:
        assert value()[1] == "default"
    else:
        assert value() == (setting.default, "default")
    text = {True: "true"}.get(written, repr(written))
    path = write(folder, f"{name} = {text}\n")
    assert value() == (written, str(path))
    environment = {f"INDEXER_{name.upper()}": str(variable)}
    assert value(environment=environment) == (variable, f"INDEXER_{name.upper()}")
    options = {name: option}
    assert value(options=options, environment=environment) == (
        option,
        f"--{name.replace('_', '-')}",
    )
    assert value(options={name: None}, environment=environment)[0] == variable


def test_an_option_that_is_no_setting_is_left_to_its_command(folder: Path) -> None:
    assert load(folder, {"allow_empty": True})["max_objects"] == OBJECTS_MAX_DEFAULT


def test_an_option_can_say_no_where_the_file_says_yes(folder: Path) -> None:
    write(folder, "no_sign_request = true\n")
    assert load(folder)["no_sign_request"] is True
    assert load(folder, INDEXER_NO_SIGN_REQUEST="false")["no_sign_request"] is False
    assert load(folder, {"no_sign_request": False})["no_sign_request"] is False


@pytest.mark.parametrize("word", ["1", "true", "YES", "On"])
def test_words_for_yes(word: str, folder: Path) -> None:
    assert load(folder, INDEXER_NO_SIGN_REQUEST=word)["no_sign_request"] is True


@pytest.mark.parametrize("word", ["0", "false", "NO", "Off", ""])
def test_words_for_no(word: str, folder: Path) -> None:
    assert load(folder, INDEXER_NO_SIGN_REQUEST=word)["no_sign_request"] is False


# --- which file ----------------------------------------------------------------------------------


def test_the_named_file_wins_over_the_folders_and_that_over_the_users(folder: Path) -> None:
    user = write(folder.parent / "config" / "indexer", "max_objects = 1\n")
    assert load(folder).origins["max_objects"] == str(user)
    own = write(folder, "max_objects = 2\n")
    assert load(folder).origins["max_objects"] == str(own)
    named = write(folder.parent / "elsewhere", "max_objects = 3\n", "other.toml")
    settings = load(folder, INDEXER_CONFIG=str(named))
    assert (settings["max_objects"], settings.origins["max_objects"]) == (3, str(named))
    # One file counts, not what others say besides.
    assert load(folder, INDEXER_CONFIG=str(write(folder, "", "e.toml")))["max_objects"] != 2


def test_a_named_file_must_be_there(folder: Path) -> None:
    with pytest.raises(InvalidSetting, match="no such file"):
        load(folder, INDEXER_CONFIG=str(folder / "nowhere.toml"))


def test_the_users_file_is_in_the_home_folder_where_xdg_says_nothing(
    folder: Path, home: Path
) -> None:
    path = write(home / ".config" / "indexer", "max_objects = 4\n")
    assert load_settings({}, {}, folder).origins["max_objects"] == str(path)


@pytest.mark.parametrize(
    "text",
    ["max_objects = ", "max_objects 1", "[max_objects", 'region = "\\x"', "a = 1\na = 2", "\x00"],
)
def test_a_file_that_is_no_toml_is_an_error(text: str, folder: Path) -> None:
    path = write(folder, text)
    with pytest.raises(InvalidSetting, match=re.escape(str(path))):
        load(folder)


def test_a_file_that_is_not_utf8_is_an_error(folder: Path) -> None:
    (folder / "indexer.toml").write_bytes(b'region = "\xff"\n')
    with pytest.raises(InvalidSetting, match=r"indexer\.toml"):
        load(folder)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("colour = 1\n", "colour"),
        ("max-objects = 1\n", "max-objects"),
        ("MAX_OBJECTS = 1\n", "MAX_OBJECTS"),
        ("[snapshot]\nmax_objects = 1\n", "snapshot"),
        ('aws_secret_access_key = "x"\n', "aws_secret_access_key"),
    ],
)
def test_an_unknown_name_in_the_file_is_an_error(text: str, name: str, folder: Path) -> None:
    write(folder, "region = 'eu-west-1'\n" + text)
    with pytest.raises(InvalidSetting, match=f"{name!r}.*max_objects"):
        load(folder)


# --- values that cannot be -----------------------------------------------------------------------


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", ["0", "-1", "ten", "1e5", "1.5", "", " ", "9" * 30, "9" * 5000])
def test_a_number_is_a_number_in_its_bounds(name: str, text: str, folder: Path) -> None:
    setting = BY_NAME[name]
    if text == str(setting.least):
        pytest.skip("that is one that may be")
    with pytest.raises(InvalidSetting) as caught:
        load(folder, **{setting.variable: text})
    message = str(caught.value)
    assert message.startswith(f"{setting.variable}: {name} is ")
    assert f"from {setting.least:,} to {setting.most:,}." in message


@pytest.mark.parametrize(
    ("name", "most"), [("max_objects", OBJECTS_MAX), ("in_flight", IN_FLIGHT_MAX)]
)
def test_the_bounds_belong_to_the_range(name: str, most: int, folder: Path) -> None:
    for value in (1, most):
        assert load(folder, {name: value})[name] == value
    with pytest.raises(InvalidSetting, match=f"--{name.replace('_', '-')}"):
        load(folder, {name: most + 1})


@pytest.mark.parametrize(
    "line",
    [
        "max_objects = true",
        "max_objects = 1.0",
        "max_objects = [1]",
        "max_objects = 2026-01-02",
        "no_sign_request = 'perhaps'",
        "no_sign_request = 2",
        "region = 5",
        "region = ['eu-west-1']",
        "data = {}",
        "on_limit = 'ignore'",
        "log_level = 'DEBUG'",
        "request_payer = 'me'",
    ],
)
def test_the_file_holds_values_of_the_right_kind(line: str, folder: Path) -> None:
    path = write(folder, line + "\n")
    name = line.partition(" ")[0]
    with pytest.raises(InvalidSetting, match=re.escape(f"{path}: {name} is ")):
        load(folder)


def test_an_error_names_the_choices(folder: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"INDEXER_ON_LIMIT: on_limit is 'x'.* error, partial"):
        load(folder, INDEXER_ON_LIMIT="x")


# --- the data folder -----------------------------------------------------------------------------


def test_the_data_folder_is_in_the_xdg_data_home(folder: Path, home: Path) -> None:
    assert load(folder, XDG_DATA_HOME="/xdg").data == Path("/xdg/indexer")
    assert load(folder).data == default_data_folder({}) == home / ".local/share/indexer"
    assert load(folder, {"data": "here"}).data == Path("here")
    assert load(folder, INDEXER_DATA="~/there").data == home / "there"
    assert load(folder, INDEXER_DATA="", XDG_DATA_HOME="/xdg").data == Path("/xdg/indexer")


def test_the_home_of_nobody_is_an_error(folder: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"--data.*~no-such-user"):
        _ = load(folder, {"data": "~no-such-user/data"}).data


def test_no_setting_is_a_secret() -> None:
    assert not [name for name in BY_NAME if re.search("secret|password|token|key", name)]
    assert len(BY_NAME) == len(SETTINGS)

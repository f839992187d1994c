import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inferwatt.config import Loaded, load, render_defaults, render_effective
from inferwatt.errors import ConfigError


class Mode(StrEnum):
    """A word out of two."""

    FAST = "fast"
    SLOW = "slow"


class Poll(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section with numbers."""

    poll_seconds: Annotated[float, msgspec.Meta(ge=0.001, le=60)] = 0.02
    window_seconds: float = 10.0
    keep_days: int = 90
    share_ratio: float = 0.5
    offset_celsius: float = 0.0
    mode: Mode = Mode.FAST
    enabled: bool = True
    names: tuple[str, ...] = ("a",)
    limit_bytes: int | None = None


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One item of a list of tables."""

    name: str
    url: str = ""
    api_key: str = ""


class Outside(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A section with text, a secret and a list of tables."""

    listen: str = "127.0.0.1:1"
    admin_token: str = ""
    token_file: str = ""
    server: tuple[Server, ...] = ()
    idle_hz: float = 10.0

    def __post_init__(self) -> None:
        """Refuse a rate of exactly 13."""
        if self.idle_hz == 13:
            raise ValueError("idle_hz is 13, must be another number")


class Root(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole."""

    poll: Poll = Poll()
    web: Outside = Outside()
    data_folder: str = ""


def written(tmp_path: Path, text: str | bytes) -> Path:
    """Write a configuration and return where it lies."""
    file = tmp_path / "inferwatt.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def loaded_from(tmp_path: Path, text: str | bytes) -> Loaded[Root]:
    """Load a file with this text."""
    return load(Root, file=written(tmp_path, text))


def error_of(tmp_path: Path, text: str | bytes) -> ConfigError:
    """Return this text's error."""
    with pytest.raises(ConfigError) as caught:
        loaded_from(tmp_path, text)
    return caught.value


def test_nothing_given_is_every_default() -> None:
    """Without file, environment and flags the schema's own defaults stand, and say so."""
    loaded = load(Root)

    assert Root() == loaded.value
    assert loaded.origin("web.listen") == "default"


def test_a_flag_stands_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    """Each value comes from the nearest place that gives it, and says which one that is."""
    file = written(tmp_path, '[web]\nlisten = "file:1"\ntoken_file = "file"\n\n[poll]\nkeep_days = 7\n')
    environ = {"INFERWATT_WEB__LISTEN": "env:1", "INFERWATT_WEB__TOKEN_FILE": "env"}
    loaded = load(Root, file=file, environ=environ, flags={"web.listen": "flag:1", "poll.keep_days": None})

    assert loaded.value.web == Outside(listen="flag:1", token_file="env")
    assert loaded.value.poll.keep_days == 7
    assert [loaded.origin(path) for path in ("web.listen", "web.token_file", "poll.keep_days", "poll.mode")] == [
        "flag --listen",
        "environment INFERWATT_WEB__TOKEN_FILE",
        "inferwatt.toml line 6",
        "default",
    ]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("KEEP_DAYS", "12", 12),
        ("POLL_SECONDS", "1e-2", 0.01),
        ("ENABLED", "false", False),
        ("MODE", "slow", Mode.SLOW),
        ("NAMES", "x, y", ("x", "y")),
        ("NAMES", '["x, y"]', ("x, y",)),
        ("LIMIT_BYTES", "", None),
        ("LIMIT_BYTES", "5", 5),
    ],
)
def test_the_environment_is_read_as_the_key_asks(name: str, text: str, value: object) -> None:
    """Text from outside becomes a number, a choice, a list where the section says so."""
    loaded = load(Root, environ={f"INFERWATT_POLL__{name}": text})

    assert value == getattr(loaded.value.poll, name.lower())


def test_a_list_of_tables_can_come_from_the_environment() -> None:
    """A container without a file can still name its servers."""
    loaded = load(Root, environ={"INFERWATT_WEB__SERVER": '[{name = "a", url = "u"}]'})

    assert (Server("a", "u"),) == loaded.value.web.server


def test_variables_of_others_are_left_alone() -> None:
    """INFERWATT_SOCKET and the rest of the environment are no settings; a key outside sections is."""
    environ = {"INFERWATT_SOCKET": "/s", "INFERWATT_VLLM": "1", "HOME__X": "y", "INFERWATT_DATA_FOLDER": "/d"}

    assert Root(data_folder="/d") == load(Root, environ=environ).value


def test_a_misspelt_variable_stops_the_start() -> None:
    """A setting that does nothing is worse than an error."""
    with pytest.raises(ConfigError, match=r"web.listn is not a key. Did you mean listen\?\n.*INFERWATT_WEB__LISTN"):
        load(Root, environ={"INFERWATT_WEB__LISTN": "x"})


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("[poll]\npoll_second = 1\n", "poll.poll_second is not a key. Did you mean poll_seconds?", "line 2"),
        ("[poll]\nhzz = 1\n", "poll.hzz is not a key. Keys of [poll]: poll_seconds, ", "line 2"),
        ("\n[wep]\nlisten = 'x'\n", "wep is not a key. Did you mean web?", "line 2"),
        ("zzz = 1\n", "zzz is not a key. Sections: poll, web, data_folder", "line 1"),
        ("[poll]\npoll_seconds = nan\n", "poll.poll_seconds is nan, must be a number of seconds, at least", "line 2"),
        ("[poll]\noffset_celsius = nan\n", "poll.offset_celsius is nan, must be a number", "line 2"),
        ("[poll]\nwindow_seconds = inf\n", "poll.window_seconds is inf, must be a number of seconds", "line 2"),
        ("[poll]\nwindow_seconds = -1\n", "is -1, must be a number of seconds, at least 0", "line 2"),
        ("[poll]\npoll_seconds = 61\n", "is 61, must be a number of seconds, at least 0.001 and at most 60", "line 2"),
        ("[poll]\nkeep_days = 1" + "0" * 23, "must be a whole number of days, at least 0", "line 2"),
        ("[poll]\nkeep_days = 1.5\n", "is 1.5, must be a whole number of days", "line 2"),
        ("[poll]\nkeep_days = true\n", "is true, must be a whole number of days", "line 2"),
        ('[poll]\nkeep_days = "10"\n', 'is "10", must be a whole number of days', "line 2"),
        ("[poll]\nshare_ratio = 50\n", "is 50, must be a number, at least 0 and at most 1", "line 2"),
        ('[poll]\nmode = "quick"\n', 'is "quick", must be one of "fast", "slow"', "line 2"),
        ('[poll]\nenabled = "yes"\n', 'is "yes", must be true or false', "line 2"),
        ('[poll]\nnames = [\n  "a",\n  2,\n]\n', "poll.names[1] is 2, must be text in quotes", "line 4"),
        ('[poll]\nnames = "a"\n', 'is "a", must be a list, each item text in quotes', "line 2"),
        ("[poll]\nlimit_bytes = 1979-05-27\n", "must be a whole number of bytes, at least 0 or left out", "line 2"),
        ("poll = 3\n", "poll is 3, must be a table with the keys poll_seconds", "line 1"),
        ('[[web.server]]\nurl = "u"\n', "web.server[0].name is missing, must be text in quotes", "line 1"),
        (
            '[[web.server]]\nname = "a"\n[[web.server]]\nname = "b"\nurl = 5\n',
            "web.server[1].url is 5, must be text in quotes",
            "line 5",
        ),
        ("[web]\nidle_hz = 13\n", "web.idle_hz: idle_hz is 13, must be another number", "line 2"),
    ],
)
def test_a_wrong_value_names_its_place_key_value_and_what_is_allowed(
    tmp_path: Path, text: str, what: str, where: str
) -> None:
    """What stops the start can be mended without looking anything up."""
    error = error_of(tmp_path, text)

    assert what in error.what
    assert error.where == f"inferwatt.toml {where}"
    assert "inferwatt config --defaults" in error.fix


@pytest.mark.parametrize(
    ("text", "what", "where"),
    [
        ("[web]\nlisten = 'a'\nlisten = 'b'\n", "given twice", "inferwatt.toml line 3"),
        ("[web]\n[poll]\n[web]\n", "given twice", "inferwatt.toml line 3"),
        ("a = 2024-13-45\n", "not valid TOML", "inferwatt.toml line 1"),
        ("[web]\nlisten = '\0'\n", "invalid character", "inferwatt.toml line 2"),
        ("\n[web\n", "not valid TOML", "inferwatt.toml line 2"),
        ("[web]\nlisten = ", "at the end of the file", "inferwatt.toml line 2"),
        ("\nx = " + "[" * 500 + "]" * 500, "brackets", "inferwatt.toml line 2"),
        ("x = " + "{a=" * 500 + "1" + "}" * 500, "brackets", "inferwatt.toml line 1"),
        ("x = " + "[" * 100_000, "brackets", "inferwatt.toml line 1"),
        ("x = 1" + "0" * 5000, "", "inferwatt.toml line 1"),
        (b"[web]\nlisten = '\xff'\n", "not UTF-8", "inferwatt.toml line 2"),
        ("[web]\n".encode("utf-16"), "not UTF-8", "inferwatt.toml line 1"),
    ],
)
def test_text_that_is_no_configuration_is_refused_by_line(
    tmp_path: Path, text: str | bytes, what: str, where: str
) -> None:
    """Duplicate keys, bad dates, NUL, endless brackets and other encodings end in words, never in a traceback."""
    error = error_of(tmp_path, text)

    assert what.lower() in error.what.replace("Illegal", "invalid").lower()
    assert where.startswith(error.where)


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path) -> None:
    """A file saved by a Windows editor loads, and its lines are counted right."""
    loaded = loaded_from(tmp_path, b"\xef\xbb\xbf[web]\r\nlisten = 'w'\r\n")

    assert loaded.value.web.listen == "w"
    assert loaded.origin("web.listen") == "inferwatt.toml line 2"


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    """A path that is not a readable file stops the start with that path."""
    with pytest.raises(ConfigError, match="cannot read the configuration") as caught:
        load(Root, file=tmp_path / name)

    assert caught.value.where == str(tmp_path / name)


def test_an_endless_file_is_refused() -> None:
    """A device in the place of a file does not fill the memory."""
    with pytest.raises(ConfigError, match="larger than"):
        load(Root, file=Path("/dev/zero"))


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    """A token is in no listing and in no error, whether it is right, wrong or in the wrong place."""
    secret = "canary-4711"
    loaded = loaded_from(tmp_path, f'[web]\nadmin_token = "{secret}"\n[[web.server]]\nname="a"\napi_key="{secret}"\n')
    shown = render_effective(loaded)
    errors = [
        error_of(tmp_path, f'[web]\nadmin_token = ["{secret}"]\n'),
        error_of(tmp_path, f'[web]\nserver = {{ name = "a", api_key = "{secret}" }}\n'),
        error_of(tmp_path, f'[web]\nlisten = ["http://user:{secret}@host/"]\n'),
    ]

    assert 'admin_token = "***"' in shown
    assert secret not in shown + "".join(map(str, errors))
    assert loaded.value.web.admin_token == secret


def test_what_is_in_force_says_where_it_came_from(tmp_path: Path) -> None:
    """Each value stands beside its origin, section by section."""
    file = written(tmp_path, '[poll]\nkeep_days = 7\n[[web.server]]\nname = "a"\nurl = "http://u:p@h/"\n')
    lines = render_effective(load(Root, file=file, environ={"INFERWATT_POLL__MODE": "slow"})).splitlines()
    told = {line.partition(" =")[0]: line.partition("  # ")[2] for line in lines if " = " in line}

    assert told["keep_days"] == "inferwatt.toml line 2"
    assert told["mode"] == "environment INFERWATT_POLL__MODE"
    assert told["name"] == "inferwatt.toml line 4"
    assert told["listen"] == "default"
    assert "[[web.server]]" in lines
    assert not any("u:p" in line for line in lines)


def test_the_defaults_are_a_file_that_changes_nothing(tmp_path: Path) -> None:
    """`inferwatt config --defaults` prints every key, what it may be, and loads as the defaults."""
    text = render_defaults(Root)

    assert Root() == loaded_from(tmp_path, text).value
    assert "poll_seconds = 0.02" in text
    assert "# a number of seconds, at least 0.001 and at most 60" in text
    assert "# [[web.server]]" in text


POLLS = st.builds(
    Poll,
    window_seconds=st.floats(0, 1e300),
    keep_days=st.integers(0, 2**63 - 1),
    offset_celsius=st.floats(allow_nan=False, allow_infinity=False),
    mode=st.sampled_from(Mode),
    names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3).map(tuple),
    limit_bytes=st.none() | st.integers(0, 2**63 - 1),
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: "://" not in text)
SERVERS = st.builds(Server, TEXTS, TEXTS)


@given(st.builds(Root, POLLS, st.builds(Outside, listen=TEXTS, server=st.lists(SERVERS, max_size=2).map(tuple)), TEXTS))
def test_what_is_shown_loads_back_to_the_same(root: Root) -> None:
    """Whatever text a value holds, the listing is TOML and means the same."""
    assert root == msgspec.convert(tomllib.loads(render_effective(Loaded(root, {}))), Root)

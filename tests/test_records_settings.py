"""`cvfp settings`: every setting is there with its default and what the text below its field says."""

from cvfp.records.config import RunConfig
from cvfp.records.settings import all_settings


def test_every_setting_has_a_meaning_of_its_own():
    for setting in all_settings():
        assert setting.meaning.endswith("."), setting.key


def test_a_default_that_is_overridden_keeps_the_meaning_of_its_field():
    meanings = {setting.key: setting.meaning for setting in all_settings()}
    for arm in ("lstm", "transformer"):
        assert meanings[f"{arm}.word_dropout"] == meanings["phase2.word_dropout"]
        assert meanings[f"{arm}.averaging"].startswith("What is evaluated and kept: `two-tailed`")


def test_the_defaults_are_those_of_a_run():
    config = RunConfig()
    for setting in all_settings():
        value = config
        for name in setting.key.split("."):
            value = getattr(value, name)
        assert str(value) == setting.default, setting.key

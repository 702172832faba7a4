"""Claims: Japanese text goes through a sweep, is measured per byte; its names are drawn or spelled out."""

import numpy as np
import pytest
import torch
from data_helpers import dataset_of
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from lab_helpers import TINY
from matplotlib.font_manager import fontManager

from cvfp.data.dataset import open_dataset
from cvfp.lab.plan import SweepSpec, make_plan
from cvfp.lab.runner import run_sweep
from cvfp.records.config import DataConfig
from cvfp.records.sweep import load_sweep
from cvfp.report.figures import style
from cvfp.report.figures.style import LONGEST_LABEL, short_label
from cvfp.report.write import write_report

PARTS = (
    ("昨日、", "今朝、", "去年の夏、", "雨の日に、"),
    ("私は", "彼女は", "猫は", "先生は", "祖母は"),
    ("公園で", "図書館で", "台所で", "京都で"),
    ("本を", "手紙を", "新聞を", "自転車を", "お茶を"),
    ("読みました。", "見つけました。", "忘れました。", "探していました。"),
)


def story(generator):
    return "".join("".join(generator.choice(words) for words in PARTS) for _ in range(6))


@pytest.fixture(scope="module")
def novels(tmp_path_factory):
    """A folder of forty stories, half of them in Shift_JIS; beside it one of ten."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, count in (("小説", 40), ("新聞", 10)):
        (folder / name).mkdir()
        for number in range(count):
            text = story(generator).encode("cp932" if number % 2 else "utf-8")
            (folder / name / f"第{number}章.txt").write_bytes(text)
    return folder / "小説"


def test_a_tokenizer_of_the_text_takes_fewer_tokens_than_gpt2_which_is_noted(novels):
    notes = []
    english = open_dataset(DataConfig(corpus=str(novels)), notes.append).stats()
    own = dataset_of(novels, tokenizer="bpe:600").stats()
    assert own["bytes"] == english["bytes"] > 2.9 * own["characters"]
    assert own["bytes_per_token"] > 3 * english["bytes_per_token"]
    assert english["tokens_per_character"] > 1 > own["tokens_per_character"]
    (line,) = [line for line in notes if "data.tokenizer=bpe" in line]
    assert "tokens per character" in line
    quiet = []
    open_dataset(DataConfig(corpus=str(novels), tokenizer="bpe:600"), quiet.append)
    assert not any("per character" in line for line in quiet)


@pytest.fixture(scope="module")
def swept(novels, tmp_path_factory):
    """A sweep with two tokenizers, and a line with a Japanese name."""
    spec = SweepSpec(
        name="日本語",
        samples=(12, 24),
        arms=("cvfp", "kneser-ney"),
        settings=TINY | {"data.corpus": "小説", "data.tokenizer": "bpe:300", "phase2.epochs": 1},
        variants=({}, {"data.tokenizer": "bpe:600"}, {"data.order": "file"}),
    )
    plan = make_plan(spec)
    named = [
        p.model_copy(update={"config_name": p.config_name.replace("file", "小説+新聞")}) for p in plan.points
    ]
    out = tmp_path_factory.mktemp("out") / "結果"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(novels.parent)
        run_sweep(plan.model_copy(update={"points": tuple(named)}), out, torch.device("cpu"))
    return out


@pytest.mark.long
def test_tokenizers_are_compared_by_the_byte(swept):
    points = {(point.arm, point.config_name, point.num_samples): point for point in load_sweep(swept).points}
    small = points["kneser-ney", "5gram", 24]
    large = points["kneser-ney", "5gram tokenizer=bpe:600", 24]
    assert small.train_bytes == large.train_bytes and small.train_tokens > 1.3 * large.train_tokens
    assert large.val_ppl > 1.5 * small.val_ppl
    assert large.bits_per_byte == pytest.approx(small.bits_per_byte, rel=0.25)
    assert all(0 < point.bits_per_byte < 8 for point in points.values())


def test_the_report_is_written_in_japanese_with_what_was_noted(swept):
    write_report(swept, "ja")
    text = (swept / "report.ja.md").read_text(encoding="utf-8")
    assert "コーパス" in text and "小説: 20 files read as cp932, not UTF-8" in text


@pytest.fixture
def fresh_fonts(monkeypatch):
    """Which fonts there are is found out anew, and forgotten after the test."""

    def forget():
        style.families.cache_clear()
        style._glyphs.cache_clear()

    monkeypatch.setattr(
        fontManager, "ttflist", [f for f in fontManager.ttflist if f.name not in style.FURTHER]
    )
    monkeypatch.setattr(style, "findSystemFonts", lambda: [])
    forget()
    yield
    forget()


def font_file(path, family, signs):
    """A font whose glyphs are filled squares."""
    pen = TTGlyphPen(None)
    for move, point in (
        ("moveTo", (0, 0)),
        ("lineTo", (0, 900)),
        ("lineTo", (900, 900)),
        ("lineTo", (900, 0)),
    ):
        getattr(pen, move)(point)
    pen.closePath()
    names = {ord(sign): f"u{ord(sign):04X}" for sign in signs}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    builder.setupGlyf({name: pen.glyph() for name in (".notdef", *names.values())})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", *names.values()), (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return path


def test_without_a_font_names_are_spelled_as_code_points_and_one_line_says_so(fresh_fonts):
    assert style.families() == (style.COMMON,)
    assert short_label("corpus=小説.txt α×…") == "corpus=[5C0F 8AAC].txt α×…"
    assert style.drawable("図書館の本") == "[56F3 66F8 9928 +2]"
    line = style.font_note(["cvfp 小説", "小説+日本"])
    assert "小説日本" in line and "fonts-noto-cjk" in line and "\n" not in line
    assert style.font_note(["cvfp 1L_768d_2tok", "µ–…"]) is None


def test_an_installed_font_is_used_for_what_the_common_one_lacks(fresh_fonts, monkeypatch, tmp_path):
    path = font_file(tmp_path / "japanese.ttf", "IPAexGothic", "小説")
    monkeypatch.setattr(style, "findSystemFonts", lambda: [str(path), str(tmp_path / "none.ttf")])
    assert style.families() == (style.COMMON, "IPAexGothic")
    assert short_label("corpus=小説") == "corpus=小説"
    assert style.drawable("小説と") == "小説[3068]"


@pytest.mark.long
def test_figures_of_japanese_names_have_no_missing_glyphs(fresh_fonts, swept, tmp_path, recwarn):
    spelled, drawn, scaling = [], [], swept / "figures" / "context_dim_scaling.png"
    write_report(swept, note=spelled.append)
    before = scaling.read_bytes()
    fontManager.addfont(font_file(tmp_path / "japanese.ttf", "Noto Sans CJK JP", "小説新聞"))
    style.families.cache_clear()
    write_report(swept, note=drawn.append)
    assert len(spelled) == 1 and "小説新聞" in spelled[0] and drawn == []
    assert scaling.read_bytes() != before
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]


def test_wide_labels_are_cut_by_their_width(fresh_fonts, monkeypatch, tmp_path):
    path = font_file(tmp_path / "japanese.ttf", "IPAexGothic", "小説")
    monkeypatch.setattr(style, "findSystemFonts", lambda: [str(path)])
    assert style.columns(short_label("小説" * 30)) <= LONGEST_LABEL + 1
    assert short_label("a" * 60) == "a" * 21 + "…" + "a" * 21

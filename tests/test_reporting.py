"""report.html shows a run and needs nothing else: no network, no other file, no trust in names."""

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from conftest import begin, environment_of
from PIL import Image

from lightcnn.datasets import ImageDataset, Split
from lightcnn.evaluation.images import classification_figures
from lightcnn.reporting import write_report
from lightcnn.runs import Recipe, Run

LAYERS = [
    {"name": "pixels", "class": "InputLayer", "output": "(16, 16, 1)", "parameters": 0},
    {"name": "conv_1", "class": "MFMConv2D", "output": "(16, 16, 32)", "parameters": 1664},
    {"name": "logits", "class": "Dense", "output": "(3,)", "parameters": 243},
]
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "section", "div", "span", "p", "b", "br", "figure"),
    *("h1", "h2", "h3", "table", "tr", "th", "td", "img", "figcaption"),
}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.images, self.text, self.rows, self.titles = [], {}, [], [], []
        self.attributes = []
        self._inside = ""
        self.pictures = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "img":
            attributes = dict(attrs)
            if attributes["alt"]:
                self.images[attributes["alt"]] = attributes["src"]
            else:
                self.pictures.append(attributes["src"])

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside in ("td", "th"):
            self.rows[-1][-1] += data
        if self._inside == "h2":
            self.titles.append(data)
        if self._inside != "style":
            self.text.append(data)


def decoded(source, kind):
    head, _, content = source.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(content, validate=True)


def random_pictures(count, shape=(16, 16, 1), dtype=np.uint8):
    pictures = np.random.default_rng(0).integers(0, 256, (count, *shape))
    return pictures.astype(dtype)


def report(folder, labels=("cat", "dog", "bird"), own=None, predicted=None, **changes):
    """Writes the report of a run that is made up: `own` are the labels, `predicted` what the model says."""
    classes = len(labels)
    own = np.arange(2 * classes) % classes if own is None else np.asarray(own)
    predicted = np.asarray(own if predicted is None else predicted)
    probabilities = np.full((len(own), classes), 0.1 / classes, np.float32)
    probabilities[np.arange(len(own)), predicted] += np.linspace(0.85, 0.9, len(own))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    pictures = changes.get("pictures", random_pictures(len(own)))
    names = changes.get("names", [f"data/{index}.png" for index in range(len(own))])
    split = Split(pictures, own.astype(np.int64), np.arange(len(own)), names)
    data = ImageDataset(changes.get("dataset", "made up"), tuple(labels), split, split, split, Path("/data"), "0" * 64)

    recipe = changes.get("recipe", Recipe("mine", "arrays", epochs=3, freeze=("conv_1",)))
    run = Run.open(folder) if changes.get("again") else begin(folder, recipe)
    epochs = changes.get("epochs", 3)
    keys = ("loss", "accuracy", "val_loss", "val_accuracy")
    run.write_history([{"epoch": n + 1, **dict.fromkeys(keys, changes.get("value", 0.5))} for n in range(epochs)])
    run.write_environment(
        environment_of(
            data.name,
            command=changes.get("command", "lightcnn train arrays --set epochs=3"),
            data={"sizes": {"train": 100, "validation": 10, "test": len(own)}},
            layers=LAYERS,
            notes=changes.get("notes", []),
        )
    )
    figures = classification_figures(probabilities, split.labels, data.labels)
    run.write_metrics({"train_seconds": 12.0, "parameters": 1907, "validation": figures, "test": figures})
    write_report(run.report, run, data, "test", probabilities, run.metrics | changes.get("metrics", {}))
    return run.report.read_text(encoding="utf-8")


def assert_stands_alone(text):
    page = Page(text)
    assert set(page.tags) <= TAGS
    assert "link" not in page.tags
    assert "script" not in page.tags
    assert {name for name, _ in page.attributes} <= {"lang", "charset", "name", "content", "class", "alt", "src"}
    assert all(value.startswith("data:image/") for name, value in page.attributes if name == "src")
    assert "url(" not in text
    assert "@import" not in text
    return page


def test_the_report_is_one_file(tmp_path):
    text = report(tmp_path, predicted=[0, 1, 2, 0, 1, 0])
    assert_stands_alone(text)
    assert "http://" not in text
    assert "https://" not in text


def test_the_report_has_all_its_parts(tmp_path):
    page = Page(report(tmp_path))
    assert page.titles == [
        *("Learning curves", "Confusion matrix (test)", "Per class", "Calibration", "Worst mistakes (test)"),
        *("Layers", "How it was made"),
    ]


def test_plots_are_pictures_in_the_file(tmp_path):
    page = Page(report(tmp_path))
    assert set(page.images) == {"loss and accuracy by epoch", "confusion matrix", "calibration"}
    for source in page.images.values():
        assert b"<svg" in decoded(source, "image/svg+xml")


def test_every_layer_is_listed_with_its_parameters(tmp_path):
    rows = Page(report(tmp_path)).rows
    for layer in LAYERS:
        assert [layer["name"], layer["class"], layer["output"], f"{layer['parameters']:,}"] in rows
    assert ["total", "", "", "1,907"] in rows


def test_how_it_was_made_is_told(tmp_path):
    rows = Page(report(tmp_path, notes=["Weights come from elsewhere."])).rows
    for row in (
        ["command", "lightcnn train arrays --set epochs=3"],
        ["note 1", "Weights come from elsewhere."],
        ["software", "keras 3.12.0"],
    ):
        assert row in rows
    recipe = Recipe("mine", "arrays", epochs=3, freeze=("conv_1",))
    assert [[key, str(value)] for key, value in recipe.to_json().items() if [key, str(value)] not in rows] == []


def test_the_confused_classes_are_named(tmp_path):
    rows = Page(report(tmp_path, own=[0, 0, 0, 1, 2], predicted=[1, 1, 0, 1, 0])).rows
    start = rows.index(["label", "predicted as", "pictures"])
    assert rows[start + 1 : start + 3] == [["cat", "dog", "2"], ["bird", "cat", "1"]]


def test_per_class_figures(tmp_path):
    rows = Page(report(tmp_path, own=[0, 0, 1, 1], predicted=[0, 1, 1, 1], names=list("abcd"))).rows
    assert ["cat", "2", "100.00%", "50.00%"] in rows
    assert ["dog", "2", "66.67%", "100.00%"] in rows
    assert ["bird", "0", "", ""] in rows


def test_mistakes_are_shown_worst_first(tmp_path):
    pictures = random_pictures(3)
    text = report(tmp_path, own=[0, 1, 2], predicted=[0, 0, 0], pictures=pictures)
    page = Page(text)
    assert len(page.pictures) == 2
    # the last picture got the surest prediction, so its own label the least
    shown = [np.asarray(Image.open(io.BytesIO(decoded(source, "image/png")))) for source in page.pictures]
    assert np.array_equal(shown[0], pictures[2, ..., 0])
    assert np.array_equal(shown[1], pictures[1, ..., 0])
    assert "2 of 3 are wrong." in text
    assert text.index("2.png") < text.index("1.png")


def test_at_most_24_mistakes_are_shown(tmp_path):
    page = Page(report(tmp_path, own=np.zeros(40, int), predicted=np.ones(40, int)))
    assert len(page.pictures) == 24
    assert "40 of 40 are wrong." in page.text


def test_no_mistakes(tmp_path):
    page = Page(report(tmp_path))
    assert page.pictures == []
    assert "None: every picture was classified correctly." in page.text
    assert "100.00%" in page.text


@pytest.mark.parametrize(
    ("shape", "dtype", "mode"),
    [
        ((16, 16, 3), np.uint8, "RGB"),
        ((16, 16, 1), np.float32, "L"),
        ((16, 16, 3), np.float32, "RGB"),
        ((16, 16, 4), np.float64, "L"),
        ((16, 16, 2), np.uint8, "L"),
        ((16, 16, 1), np.uint16, "L"),
        ((16, 16, 1), np.int64, "L"),
    ],
)
def test_mistakes_of_every_kind_of_array_are_shown(tmp_path, shape, dtype, mode):
    pictures = random_pictures(6, shape, dtype)
    page = Page(report(tmp_path, predicted=[1, 2, 0, 1, 2, 0], pictures=pictures))
    assert len(page.pictures) == 6
    assert Image.open(io.BytesIO(decoded(page.pictures[0], "image/png"))).mode == mode


def test_a_picture_of_one_value_is_shown(tmp_path):
    page = Page(report(tmp_path, predicted=[1] * 6, pictures=np.full((6, 16, 16, 1), 7.5, np.float32)))
    assert len(page.pictures) == 4


def test_thirty_classes(tmp_path):
    labels = [f"class {index}" for index in range(30)]
    page = assert_stands_alone(report(tmp_path, labels, own=np.arange(30), predicted=(np.arange(30) + 1) % 30))
    assert [row[0] for row in page.rows if row[1:] == ["1", "0.00%", "0.00%"]] == labels
    start = page.rows.index(["label", "predicted as", "pictures"])
    assert len([row for row in page.rows[start + 1 :] if len(row) == 3]) == 8


EVIL = "<script>alert('1')</script>"


def test_names_from_outside_are_text(tmp_path):
    text = report(
        tmp_path,
        labels=(EVIL, '"><img src=x onerror=alert(1)>', "a & b"),
        own=[0, 1, 2],
        predicted=[1, 2, 0],
        names=[f"folder/{EVIL.replace('/', '')}.png", "<b>.png", "'\".png"],
        dataset="<iframe>",
        command=f"lightcnn train {EVIL}",
        notes=[EVIL],
        recipe=Recipe(EVIL, "arrays", kernel_initializer="<style>"),
    )
    page = assert_stands_alone(text)
    assert EVIL not in text
    shown = "".join(page.text)
    assert EVIL in shown
    assert "<iframe>" in shown
    assert "<script>alert('1')<script>.png" in shown
    assert any(row[0] == "a & b" for row in page.rows)


@pytest.mark.parametrize(
    "label", ["$", "$x_$", r"$\foo$", "5$ - 10$", "{", "_hidden", r"\alpha", "%", "a\nb", "", "caf\udce9", "a\x01b"]
)
def test_names_mean_nothing_to_the_plots(tmp_path, label):
    page = Page(report(tmp_path, (label, "other"), own=[0, 1, 0], predicted=[0, 0, 1]))
    shown = label.encode(errors="backslashreplace").decode()
    assert any(row[:1] == [shown] and len(row) == 4 for row in page.rows)


@pytest.mark.parametrize("label", ["Öl", "猫", "قط", "🐈"])
def test_names_in_every_script_are_shown_without_a_warning(tmp_path, label):
    text = report(tmp_path, (label, "other"), own=[0, 1, 0], predicted=[0, 0, 1])
    assert any(row[:1] == [label] for row in Page(text).rows)


@pytest.mark.parametrize("epochs", [1, 2, 60])
def test_any_number_of_epochs_has_curves(tmp_path, epochs):
    text = report(tmp_path, epochs=epochs)
    assert f"training, {epochs} epochs" in text
    assert "loss and accuracy by epoch" in Page(text).images


def test_an_epoch_with_nan_has_curves(tmp_path):
    assert "loss and accuracy by epoch" in Page(report(tmp_path, value=float("nan"))).images


def test_the_report_replaces_the_old_one(tmp_path):
    before, after = report(tmp_path), report(tmp_path, again=True, metrics={"train_seconds": 99.0})
    assert "12 s" in before and "99 s" not in before
    assert "99 s" in after and "12 s" not in after
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".json", ".json", ".json"]

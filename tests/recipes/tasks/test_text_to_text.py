"""Texts to texts: how pairs are numbered, what is scored, what is drawn, what is refused."""

import dataclasses

import numpy as np
import pytest

import kerasrnn
from kerasrnn import recipes
from kerasrnn.recipes.base.config import ConfigError
from kerasrnn.recipes.base.errors import DatasetError
from kerasrnn.recipes.tasks import text, text_to_text
from tests.recipes import stand_ins

pytestmark = pytest.mark.tensorflow
G2P, REVERSE, TRANSLATE = (recipes.load(name) for name in ("g2p", "reverse", "translate"))
ENGLISH = TRANSLATE.Config()


def spelt(metadata, side, ids):
    symbols = ["", "[UNK]", *metadata[side]["symbols"], "[END]", "[START]"]
    return [symbols[n] for n in ids]


def test_pairs_are_numbered():
    with stand_ins.served():
        data = G2P.load(G2P.tiny())
    # In the test data a word stands once for each of its pronunciations.
    pairs = [(word, said) for word, several in data.raw["test"].items() for said in several]
    rows = list(data.test.as_numpy_iterator())
    assert data.test_size == len(rows) == len(pairs)
    assert sorted(
        ("".join(spelt(data.metadata, "source", source)), spelt(data.metadata, "target", target))
        for (source, _), target in rows
    ) == sorted((word, [*said.split(), "[END]"]) for word, said in pairs)
    for (_, previous), target in rows:
        assert spelt(data.metadata, "target", previous) == [
            "[START]",
            *spelt(data.metadata, "target", target)[:-1],
        ]


def test_long_pairs_are_counted(tmp_path):
    file = tmp_path / "pairs.tsv"
    lines = [f"{'ab'[n % 2] * (n % 7 + 1)}{n}\tX Y" for n in range(40)]
    file.write_text("\n".join([*lines, "a" * 40 + "\tX", "b" * 40 + "\tX", "c" * 40 + "\tX"]))
    config = dataclasses.replace(G2P.tiny(), data=str(file))
    data = G2P.load(config)
    long = sum(len(source) > 30 for source, _ in data.raw["train"])
    assert data.metadata["left_out_of_training"] == long
    assert data.train_size == len(data.raw["train"]) - long
    assert data.metadata["target"]["symbols"] in (["X", "Y"], ["Y", "X"])


def test_word_and_phone_error_rates_by_hand():
    """Right in its second pronunciation; one sound of three otherwise; one too many of two."""
    references = [["T UW", "T AH"], ["K AE T"], ["AH B", "B"]]
    scores = G2P.scores(references, ["T AH", "K AA T", "AH B IY"], G2P.Config())
    assert scores["test_word_error_rate"] == pytest.approx(2 / 3)
    assert scores["test_phone_error_rate"] == pytest.approx((0 + 1 + 1) / (2 + 3 + 2))


def test_training_and_test_strings_are_disjoint():
    pairs = REVERSE.pairs(dataclasses.replace(REVERSE.tiny(), longest=3, examples=3000))
    held_out = {source for split in ("validation", "test") for source, _ in pairs[split]}
    assert not held_out & {source for source, _ in pairs["train"]}
    for source, target in pairs["train"]:
        assert source == target[::-1]
    other = REVERSE.pairs(dataclasses.replace(REVERSE.tiny(), longest=3, seed=5))
    assert other["test"] == pairs["test"]
    assert other["train"][:50] != pairs["train"][:50]
    assert REVERSE.scores([["ab"], ["abc"]], ["ab", "abd"], REVERSE.Config()) == {
        "test_sequence_accuracy": 0.5,
        "test_letter_error_rate": pytest.approx(1 / 5),
    }


def test_translations_are_scored_by_sacrebleu():
    """By hand: of 5, 4, 3 and 2 runs 4, 3, 2 and 1 are right; nothing is too short."""
    said = ["the cat sees a mouse"]
    bleu = TRANSLATE.scores([["the cat sees a horse"]], said, ENGLISH)["test_bleu"]
    assert bleu == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25, abs=1e-6)
    several = TRANSLATE.scores([["a cow", "the cat sees a mouse"]], said, ENGLISH)
    assert several["test_bleu"] == pytest.approx(100)


def test_perfect_translations_score_a_hundred():
    """Of words, which have no capitals and no full stops, 53.7 BLEU were the most."""
    references = [["Der Hund sieht die Katze."], ["Das Pferd, das große, hört Die Maus!", "Nein."]]
    for symbols, written in (
        ("pieces", ["Der Hund sieht die Katze.", "Das Pferd, das große, hört Die Maus!"]),
        ("words", ["der hund sieht die katze", "das pferd das große hört die maus"]),
        ("characters", ["der hund sieht die katze.", "das pferd, das große, hört die maus!"]),
    ):
        config = dataclasses.replace(ENGLISH, symbols=symbols)
        scores = TRANSLATE.scored(references, written, config)
        assert scores == pytest.approx({"test_bleu": 100, "test_chrf": 100})
    wrong = ["der hund sieht die maus", "das pferd das große hört die maus"]
    words = dataclasses.replace(ENGLISH, symbols="words")
    assert 60 < TRANSLATE.scored(references, wrong, words)["test_bleu"] < 95
    # Sounds are the same, however many blanks are between them.
    perfect = G2P.scored([["K  AE T"]], ["K AE T"], G2P.Config())
    assert perfect == {"test_word_error_rate": 0, "test_phone_error_rate": 0}


def test_few_pairs_train_with_default_options(tmp_path):
    """320 of them, as 4,000 pieces of each side are too many."""
    pytest.importorskip("sentencepiece")
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdef"), 4)) for _ in range(30)]
    lines = [" ".join(random.choice(words, 5)) for _ in range(320)]
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"{line}\t{line.title()}\n" for line in lines), "utf-8")
    data = TRANSLATE.load(dataclasses.replace(ENGLISH, data=str(file)))
    assert data.train_size + data.validation_size + sum(map(len, data.raw["test"].values())) == 320
    assert data.metadata["left_out_of_training"] == 0
    # Each piece occurs in what it was learned of.
    for side in (0, 1):
        fit = data.metadata[("source", "target")[side]]
        text_of_side = " ".join(pair[side] for pair in data.raw["train"])
        assert all(p.replace("▁", " ").strip() in text_of_side for p in fit["symbols"])
        assert 10 < len(fit["symbols"]) < 1_000


def test_japanese_is_scored_by_its_words():
    """彼 は 猫 が 好き だ, against 犬: of 6, 5, 4 and 3 runs 5, 3, 1 and 0 are right."""
    config = TRANSLATE.Config(dataset="tatoeba/ja", source="en", target="ja")
    bleu = TRANSLATE.scores([["彼は犬が好きだ"]], ["彼は猫が好きだ"], config)["test_bleu"]
    half = 100 / (2 * 3)  # sacreBLEU's: of a row without a hit, half a hit
    assert bleu == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4 * half / 100) ** 0.25, abs=1e-6)


def test_a_language_needs_its_packages(monkeypatch):
    import sacrebleu.metrics

    def absent(trg_lang):
        raise RuntimeError('Please install the extra "ja"')

    monkeypatch.setattr(sacrebleu.metrics, "BLEU", absent)
    with pytest.raises(DatasetError, match=r"target='ja'.*kerasrnn\[japanese\].*extra \"ja\""):
        TRANSLATE.load(TRANSLATE.Config(dataset="tatoeba/ja", source="en", target="ja"))


def test_bleu_against_length_by_hand(tmp_path, monkeypatch):
    """What is right has 100, what is wrong 0, in the class of its length; seeds are drawn apart."""
    from kerasrnn.recipes.base.runs import Run
    from kerasrnn.recipes.reporting import pictures

    short, long = "a man rides a horse", "a man in a hat rides a big brown horse past us"
    rows = [(short, short, short)] * 20 + [(long, long, "no")] * 4 + [(long, long, long)]
    runs = {}
    for variant, options in TRANSLATE.variants.items():
        for seed in range(2):
            config = dataclasses.replace(TRANSLATE.Config(), seed=seed, **options)
            folder = tmp_path / f"{len(runs)}-{seed}"
            Run.create(TRANSLATE, config, folder)
            # Of the first seed, everything is wrong.
            written = [(source, [right], said if seed else "no") for source, right, said in rows]
            text_to_text._keep(*zip(*written, strict=True), folder / text_to_text.WRITTEN)
            runs.setdefault(variant, []).append(folder)
    drawn = {}
    monkeypatch.setattr(
        pictures, "curves", lambda values, places, *_: drawn.update(values=values, places=places)
    )
    shown = TRANSLATE.compare(runs, tmp_path)
    # Of the others each is of a task of its own: there is nothing beside it.
    assert list(shown) == ["bleu_by_length_multi30k_de_en.png"]
    assert drawn["places"] == ["5\n(20)", "12\n(5)"]
    of_the_task = [name for name in TRANSLATE.variants if name.startswith("German to English")]
    assert list(drawn["values"]) == of_the_task
    for first, second in drawn["values"].values():
        assert first == [pytest.approx(0, abs=1e-6)] * 2
        assert second[0] == pytest.approx(100)
        assert 0 < second[1] < 50


def test_modes_are_those_of_the_zoo():
    from kerasrnn.zoo import sequence_to_sequence

    assert text_to_text.MODES == sequence_to_sequence.MODES
    assert {*text_to_text.ATTENTIONS} == {*sequence_to_sequence.ATTENTIONS, "none"}


def test_scheduled_sampling_grows_to_the_given_fraction():
    """Of 200 strings in batches of 16, two epochs: 24 steps."""
    config = dataclasses.replace(REVERSE.tiny(), sampling=0.5)
    data = REVERSE.load(config)
    steps = 2 * (data.train_size // 16)
    (decoder,) = (
        layer
        for layer in REVERSE.model(config, data).layers
        if isinstance(layer, kerasrnn.decoding.Decoder)
    )
    read = [float(decoder.sampling.epsilon(step)) for step in (0, steps / 2, steps, 2 * steps)]
    assert read == pytest.approx([1.0, 0.75, 0.5, 0.5])


def test_nearest_source_by_hand():
    train = [("kitten", "one"), ("sitting", "two"), ("bare", "three")]
    found = text_to_text._nearest(train, ["kittens", "sit", "bear", "bares"])
    assert found == ["one", "two", "three", "three"]


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (text_to_text.Config, {"input_feeding": False}, "with attention='bahdanau' it would"),
        (text_to_text.Config, {"mode": "both"}, "with attention='bahdanau' it would"),
        (text_to_text.Config, {"beam": 1, "length_penalty": 0.5}, "with beam=1 it would"),
        (text_to_text.PredictOptions, {"beam": 1, "length_penalty": 0.5}, "with beam=1 it would"),
        (TRANSLATE.Config, {"data": "x.tsv", "source": "fr"}, "with data it would"),
        (TRANSLATE.Config, {"dataset": "tatoeba/it"}, "dataset='tatoeba/it': expected one of"),
    ],
)
def test_useless_options_are_errors(config, options, message):
    with pytest.raises(ConfigError, match=message):
        config(**options)


def test_bad_inputs(tmp_path):
    with pytest.raises(ConfigError, match="'Ab': expected letters from a to z"):
        REVERSE.parse_input("Ab")
    with pytest.raises(DatasetError, match="expected a text; found none"):
        G2P.parse_input("  ")
    file = tmp_path / "pairs.tsv"
    file.write_text("cat\tK AE T\ndog\n")
    with pytest.raises(DatasetError, match=r"pairs.tsv, line 2: expected 2 columns"):
        G2P.load(dataclasses.replace(G2P.tiny(), data=str(file)))
    file.write_text("\n".join(f"{'x' * 50}{n}\tA" for n in range(60)))
    with pytest.raises(DatasetError, match="expected training pairs of at most 29 symbols"):
        G2P.load(dataclasses.replace(G2P.tiny(), data=str(file)))


def test_the_picture_has_a_panel_for_each_text(tmp_path):
    from kerasrnn.recipes.reporting import pictures
    from kerasrnn.zoo import Translation

    weights = np.eye(3)[:, :2]
    said = Translation("B A", ["B", "A"], ["a", "b"], -1.0, weights)
    cut_off = Translation("B", ["B"], ["a", "b"], -1.0, weights[:1])
    pictures.alignments([said, cut_off, said, said], tmp_path / "attention.png")
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


def test_symbols_are_not_changed():
    fit = text.fitted("symbols", ["AA b", "b ' AA", "AA"])
    assert fit["symbols"] == ["AA", "b", "'"]
    assert np.asarray(text.numbering(fit)(["b x AA"])).tolist() == [[3, 1, 2]]


def test_words_are_read_as_in_training(tmp_path):
    """Capitals and white space beyond ASCII, too."""
    file = tmp_path / "pairs.tsv"
    words = [f"{begin}{n}" for n in range(12) for begin in ("Ä", "É\u00a0", "A", "İ")]
    file.write_text("\n".join(f"{word}\tK  AE" for word in words), encoding="utf-8")
    data = G2P.load(dataclasses.replace(G2P.tiny(), data=str(file)))
    trained_on = {tuple(source) for (source, _), _ in data.train.as_numpy_iterator()}
    source = text.numbering(data.metadata["source"])
    for word, _ in data.raw["train"]:
        assert tuple(np.asarray(source([G2P.parse_input(word)]))[0]) in trained_on
    sounds = [symbol for _, y in data.train.as_numpy_iterator() for symbol in y.tolist()]
    assert set(sounds) == {2, 3, 4}  # two sounds and the end, in spite of two blanks


def test_the_maximum_length_follows_from_the_training_data(tmp_path):
    """The longest target has 20 sounds and an end, of 3 letters: 15 more than twice as many."""
    file = tmp_path / "pairs.tsv"
    lines = [f"a{n}\t{'B ' * (20 if n == 33 else 2)}" for n in range(10, 60)]
    file.write_text("\n".join(lines))
    config = dataclasses.replace(G2P.tiny(), data=str(file))
    data = G2P.load(config)
    assert ("a33", ("B " * 20).strip()) in data.raw["train"]
    translator = G2P.bundle(G2P.model(config, data), config, data)
    assert (translator.max_length, translator.length_limit) == (60, (2.0, 15))


def test_copying_unsupported_by_the_model_is_an_error_of_one_line():
    class Model:
        def check_copying(self):
            raise ValueError("copy_unknown=True: source splits texts into pieces")

    predict_options = TRANSLATE.PredictOptions(copy_unknown=True)
    with pytest.raises(ConfigError, match="copy_unknown=True: source splits texts into pieces"):
        TRANSLATE.predict(Model(), {}, ["Ein Hund"], predict_options, None)

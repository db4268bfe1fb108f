"""Decoders, and the common generation loop.

    s_0 = initial_states(context)
    logits_t, s_t = step(y_{t-1}, s_{t-1})        by the decoder
    scores_t = process(log_softmax(logits_t))     by processors, which restrict the symbols
    y_t, s_t = choose(scores_t, s_t)              by a policy: a sampler's choice for each row, or
                                                  the best continuations of several hypotheses

`Decoder` computes a step, or an entire sequence at once for training; a `LogitsProcessor` changes
the scores of a step; a sampler chooses the next symbol from the scores, and a `Beam` searches for
the most probable sequence; `loop.decode` runs them until every row has ended; `Generator` combines
them in a layer.

>>> import numpy as np, kerasrnn
>>> decoder = kerasrnn.Decoder(5, [kerasrnn.GRU(8)])
>>> sampler = kerasrnn.decoding.Sample(temperature=0.8, top_k=3)
>>> generator = kerasrnn.Generator(decoder, sampler, max_length=4, start=1, end=2, seed=3)
>>> tuple(generator(max_lengths=np.array([4, 2, 3])).shape)
(3, 4)
>>> beam = kerasrnn.decoding.Beam(width=8, length_penalty=0.6, n_best=2)
>>> generator = kerasrnn.Generator(decoder, beam, max_length=4, start=1, end=2)
>>> tuple(generator(max_lengths=np.array([4, 2, 3])).shape)
(3, 2, 4)

Without repetitions, and without symbol 3:

>>> rules = [kerasrnn.decoding.NoRepeatNGrams(1), kerasrnn.decoding.ForbiddenSymbols([3])]
>>> generator = kerasrnn.Generator(decoder, max_length=4, start=1, processors=rules)
>>> sorted(np.asarray(generator(max_lengths=np.array([3])))[0].tolist())
[0, 1, 2, 4]
"""

import keras  # noqa: F401  (first: see kerasrnn/__init__.py)
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "beam": ["Beam", "BeamSearch"],
        "copying": ["PointerGenerator"],
        "ctc": ["CTCBeam", "CTCGreedy"],
        "decoder": ["Decoder"],
        "ensemble": ["Ensemble"],
        "fusion": ["LanguageModelFusion"],
        "generator": ["Generator"],
        "language_models": ["LanguageModel", "NGramLanguageModel", "RecurrentLanguageModel"],
        "scheduled_sampling": ["ScheduledSampling"],
        "loop": ["Policy", "Sampling", "Sequences", "decode"],
        "transducer": ["TransducerBeam", "TransducerGreedy"],
        "pointing": ["PointerDecoder"],
        "phrases": ["ForbiddenPhrases", "RequiredPhrases"],
        "processors": [
            "IMPOSSIBLE",
            "ForbiddenSymbols",
            "ForcedPrefix",
            "History",
            "LogitsProcessor",
            "MinimumLength",
            "NoRepeatNGrams",
            "RepetitionPenalty",
        ],
        "samplers": [
            "Bernoulli",
            "Draw",
            "Greedy",
            "Identity",
            "Sample",
            "Sampler",
            "Strategy",
            "Threshold",
        ],
    },
)

"""Code shared by recipes of one kind: base classes, and readers of texts, tables, images and music.

A base class evaluates a model, predicts, writes the vocabulary and lists the exports. A recipe
derived from it defines the data, the model, the variants, the search space and the card:

    Classification         one class for each example
    TextClassification     one class for each text
    Tagging                words and their tags in a text, from a class for each character
    StreamedText           the next character of one long text
    ShortTexts             the next character of texts that begin and end; MoleculeModel
    TextToText             a text from a text
    ImageToText            a text from an image
    Polyphony              the next frame of a piece of music
    LongTermMemory         two synthetic problems
"""

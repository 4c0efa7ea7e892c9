"""ASVspoof 2017 version 2: replayed against bona fide speech, with STC's network of that challenge.

Source: Lavrentyeva et al. 2017: FFT spectrum of 400 frames x 864 bins, LCNN of 371,874 parameters

Cost: not measured: the corpus is not at hand

Result: not measured: the corpus is not at hand

Command: lightcnn train asvspoof2017 --data-dir FOLDER
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="asvspoof2017",
    dataset="asvspoof2017_v2",
    model="stc2017",
    front_end="stc2017_fft",
    head="softmax",
    epochs=20,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.01,
    dropout=0.5,
    duration_s=4.015,
    monitor="loss",
)

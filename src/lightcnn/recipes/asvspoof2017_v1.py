"""ASVspoof 2017 version 1, as the challenge was held: `asvspoof2017` on the first release.

Source: as asvspoof2017

Cost: not measured: the corpus is not at hand

Result: not measured: the corpus is not at hand

Command: lightcnn train asvspoof2017_v1 --data-dir FOLDER
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="asvspoof2017_v1",
    dataset="asvspoof2017_v1",
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

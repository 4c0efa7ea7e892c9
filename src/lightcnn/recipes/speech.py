"""Your own recordings, bona fide and spoofed, listed in a CSV: `file,label[,attack,speaker,split]`.

Source: LFCC and LCNN with two LSTMs of Wang and Yamagishi 2021, trained as one trains today

Cost: depends on your recordings

Result: depends on your recordings

Command: lightcnn train speech --data-dir FILE.csv
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="speech",
    dataset="csv",
    model="lcnn_lstm_sum",
    front_end="lfcc_nii",
    head="sigmoid",
    balanced=True,
    epochs=30,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.01,
    dropout=0.5,
    duration_s=3.0,
    monitor="loss",
)

"""ASVspoof 2019 physical access: replayed against bona fide speech.

Source: LFCC and LCNN with two LSTMs of Wang and Yamagishi 2021, trained as one trains today

Cost: to be measured

Result: to be measured

Command: lightcnn train asvspoof2019_pa --data-dir FOLDER
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="asvspoof2019_pa",
    dataset="asvspoof2019_pa",
    model="lcnn_lstm_sum",
    front_end="lfb_nii",
    head="oc_softmax",
    epochs=30,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.01,
    dropout=0.5,
    duration_s=2.0,
    monitor="loss",
)

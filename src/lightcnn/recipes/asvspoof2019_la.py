"""ASVspoof 2019 logical access: synthesis and voice conversion against bona fide speech.

Source: LFCC and LCNN with two LSTMs of Wang and Yamagishi 2021, trained as one trains today

Cost: to be measured

Result: to be measured

Command: lightcnn train asvspoof2019_la --data-dir FOLDER
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="asvspoof2019_la",
    dataset="asvspoof2019_la",
    model="lcnn_lstm_sum",
    front_end="lfcc_asvspoof2019",
    head="oc_softmax",
    epochs=12,
    batch_size=32,
    learning_rate=1e-3,
    weight_decay=0.01,
    dropout=0.5,
    duration_s=1.0,
    monitor="loss",
)

"""ASVspoof 2019 logical access: synthesis and voice conversion against bona fide speech.

Source: LCNN with two LSTMs of Wang and Yamagishi 2021; LFCC of the challenge's baseline; one-class softmax of Zhang,
Jiang and Duan 2021, on pieces of 1 s

Cost: 38 s of training on promptspoof (780 files) on 2 cores; time grows with the number of files

Result: on promptspoof, a small corpus in the same layout, EER on eval 7.7 ± 0.5 % (3 seeds; LFCC-GMM 11.4 ± 1.7 %,
LFCC-LCNN in PyTorch 10.4 ± 2.4 %); not measured on ASVspoof 2019 itself

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

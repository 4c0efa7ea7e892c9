"""ASVspoof 2019 physical access: replayed against bona fide speech.

Source: LCNN with two LSTMs and linear filter bank of Wang and Yamagishi 2021; one-class softmax of Zhang, Jiang and
Duan 2021, on pieces of 2 s

Cost: 106 s of training on promptspoof (360 files) on 2 cores; time grows with the number of files

Result: on promptspoof, a small corpus in the same layout, EER on eval 0.8 ± 0.7 % (3 seeds; LFCC-GMM 5.9 ± 0.5 %,
LFCC-LCNN in PyTorch 15.9 ± 2.0 %); not measured on ASVspoof 2019 itself

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

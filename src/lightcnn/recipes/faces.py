"""Your own faces: Light CNN-9, a folder with one sub-folder a person, or a list `path label`.

Source: the PyTorch training of Light CNN's authors: SGD at 0.01 with momentum 0.9 and weight decay 1e-4, times 0.457
every 10 of 80 epochs; 10 times the rate for the classifier and twice for biases, which do not decay; batches of 128;
random crops of 128 pixels out of 144, and flips. What differs: kernels start as Keras' glorot_uniform, the rate is
inside the momentum as in Caffe, the epoch is chosen by accuracy on held-out pictures, and a tenth of the people, at
least ten, are held out for the threshold

Cost: depends on your pictures, and grows with their number. These settings are for hundreds of thousands of pictures;
benchmarks/faces.py has others, for hundreds

Result: with the settings of benchmarks/faces.py, 270 pictures of 30 people of the AT&T faces: EER 11.2 ± 0.8 % on 10
other people (9.6 ± 1.5 % with flip averaging; 3 seeds), where eigenfaces have 18.7 % and HOG 21.7 %

Command: lightcnn train faces --data-dir FOLDER
"""

from lightcnn.runs import Recipe

RECIPE = Recipe(
    name="faces",
    dataset="faces",
    model="light_cnn_9",
    epochs=80,
    batch_size=128,
    optimizer="sgd",
    schedule="steps",
    learning_rate=0.01,
    weight_decay=1e-4,
    dropout=0.5,
    head="softmax",
    label_smoothing=0.0,
    kernel_initializer="glorot_uniform",
    flip=True,
    image_size=144,
    crop_size=128,
    calibration_fraction=0.1,
)

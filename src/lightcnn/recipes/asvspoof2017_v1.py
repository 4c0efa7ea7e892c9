"""ASVspoof 2017 version 1, as the challenge was held: `asvspoof2017` on the first release.

Source: as asvspoof2017

Cost: not measured: the corpus is not at hand

Result: not measured: the corpus is not at hand

Command: lightcnn train asvspoof2017_v1 --data-dir FOLDER
"""

from dataclasses import replace

from lightcnn.recipes import asvspoof2017

RECIPE = replace(asvspoof2017.RECIPE, name="asvspoof2017_v1", dataset="asvspoof2017_v1")

"""Is it the same person, and who is it: embeddings of pictures compared, and the protocols that measure it."""

from lightcnn.verification.gallery import Gallery, embed, load_gallery, rank_identities, save_gallery
from lightcnn.verification.identities import open_set_figures
from lightcnn.verification.page import write_verification_report
from lightcnn.verification.pairs import score_pairs, verification_figures, verify, write_scores

__all__ = [
    "Gallery",
    "embed",
    "load_gallery",
    "open_set_figures",
    "rank_identities",
    "save_gallery",
    "score_pairs",
    "verification_figures",
    "verify",
    "write_scores",
    "write_verification_report",
]

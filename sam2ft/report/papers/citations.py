"""References of the methods text as BibTeX; the keys are those of the citations `[@key]` in the text."""

from collections.abc import Iterable

REFERENCES: dict[str, tuple[str, dict[str, str]]] = {
    "ravi2024sam2": ("misc", {
        "author": "Ravi, Nikhila and Gabeur, Valentin and Hu, Yuan-Ting and others",
        "title": "{SAM} 2: Segment Anything in Images and Videos", "year": "2024", "eprint": "2408.00714",
        "archiveprefix": "arXiv"}),
    "paszke2019pytorch": ("inproceedings", {
        "author": "Paszke, Adam and Gross, Sam and Massa, Francisco and others",
        "title": "{PyTorch}: An Imperative Style, High-Performance Deep Learning Library",
        "booktitle": "Advances in Neural Information Processing Systems", "volume": "32", "year": "2019"}),
    "cardoso2022monai": ("misc", {
        "author": "Cardoso, M. Jorge and Li, Wenqi and Brown, Richard and others",
        "title": "{MONAI}: An open-source framework for deep learning in healthcare", "year": "2022",
        "eprint": "2211.02701", "archiveprefix": "arXiv"}),
    "dice1945": ("article", {
        "author": "Dice, Lee R.", "title": "Measures of the Amount of Ecologic Association Between Species",
        "journal": "Ecology", "volume": "26", "number": "3", "pages": "297--302", "year": "1945",
        "doi": "10.2307/1932409"}),
    "nikolov2021surface": ("article", {
        "author": "Nikolov, Stanislav and Blackwell, Sam and Zverovitch, Alexei and others",
        "title": "Clinically Applicable Segmentation of Head and Neck Anatomy for Radiotherapy",
        "journal": "Journal of Medical Internet Research", "volume": "23", "number": "7", "pages": "e26151",
        "year": "2021", "doi": "10.2196/26151"}),
    "maierhein2024metrics": ("article", {
        "author": "Maier-Hein, Lena and Reinke, Annika and Godau, Patrick and others",
        "title": "Metrics reloaded: recommendations for image analysis validation", "journal": "Nature Methods",
        "volume": "21", "pages": "195--212", "year": "2024", "doi": "10.1038/s41592-023-02151-z"}),
    "efron1987": ("article", {
        "author": "Efron, Bradley", "title": "Better Bootstrap Confidence Intervals",
        "journal": "Journal of the American Statistical Association", "volume": "82", "number": "397",
        "pages": "171--185", "year": "1987", "doi": "10.1080/01621459.1987.10478410"}),
    "wilcoxon1945": ("article", {
        "author": "Wilcoxon, Frank", "title": "Individual Comparisons by Ranking Methods",
        "journal": "Biometrics Bulletin", "volume": "1", "number": "6", "pages": "80--83", "year": "1945",
        "doi": "10.2307/3001968"}),
    "holm1979": ("article", {
        "author": "Holm, Sture", "title": "A Simple Sequentially Rejective Multiple Test Procedure",
        "journal": "Scandinavian Journal of Statistics", "volume": "6", "number": "2", "pages": "65--70",
        "year": "1979"}),
    "kerby2014": ("article", {
        "author": "Kerby, Dave S.",
        "title": "The Simple Difference Formula: An Approach to Teaching Nonparametric Correlation",
        "journal": "Comprehensive Psychology", "volume": "3", "year": "2014", "doi": "10.2466/11.IT.3.1"}),
    "wiesenfarth2021": ("article", {
        "author": "Wiesenfarth, Manuel and Reinke, Annika and Landman, Bennett A. and others",
        "title": "Methods and open-source toolkit for analyzing and visualizing challenge results",
        "journal": "Scientific Reports", "volume": "11", "pages": "2369", "year": "2021",
        "doi": "10.1038/s41598-021-82017-6"}),
    "eckstein2006": ("article", {
        "author": "Eckstein, F. and Ateshian, G. and Burgkart, R. and others",
        "title": "Proposal for a nomenclature for Magnetic Resonance Imaging based measures of articular cartilage in "
        "osteoarthritis",
        "journal": "Osteoarthritis and Cartilage", "volume": "14", "number": "10", "pages": "974--983", "year": "2006",
        "doi": "10.1016/j.joca.2006.03.005"}),
    "blandaltman1986": ("article", {
        "author": "Bland, J. Martin and Altman, Douglas G.",
        "title": "Statistical methods for assessing agreement between two methods of clinical measurement",
        "journal": "The Lancet", "volume": "327", "number": "8476", "pages": "307--310", "year": "1986",
        "doi": "10.1016/S0140-6736(86)90837-8"}),
    "shroutfleiss1979": ("article", {
        "author": "Shrout, Patrick E. and Fleiss, Joseph L.",
        "title": "Intraclass correlations: Uses in assessing rater reliability", "journal": "Psychological Bulletin",
        "volume": "86", "number": "2", "pages": "420--428", "year": "1979", "doi": "10.1037/0033-2909.86.2.420"}),
    "lin1989": ("article", {
        "author": "Lin, Lawrence I-Kuei",
        "title": "A Concordance Correlation Coefficient to Evaluate Reproducibility", "journal": "Biometrics",
        "volume": "45", "number": "1", "pages": "255--268", "year": "1989", "doi": "10.2307/2532051"}),
    "hu2022lora": ("inproceedings", {
        "author": "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and others",
        "title": "{LoRA}: Low-Rank Adaptation of Large Language Models",
        "booktitle": "International Conference on Learning Representations", "year": "2022"}),
    "loshchilov2019adamw": ("inproceedings", {
        "author": "Loshchilov, Ilya and Hutter, Frank", "title": "Decoupled Weight Decay Regularization",
        "booktitle": "International Conference on Learning Representations", "year": "2019"}),
    "tejani2024claim": ("article", {
        "author": "Tejani, Ali S. and Klontzas, Michail E. and Gatti, Anthony A. and others",
        "title": "Checklist for Artificial Intelligence in Medical Imaging ({CLAIM}): 2024 Update",
        "journal": "Radiology: Artificial Intelligence", "volume": "6", "number": "4", "pages": "e240300",
        "year": "2024", "doi": "10.1148/ryai.240300"}),
}  # fmt: skip


def bibliography(keys: Iterable[str]) -> str:
    """The BibTeX entries of `keys`, each once, sorted.

    Raises:
        KeyError: for a key that is not in REFERENCES.
    """
    return "\n".join(_entry(key, *REFERENCES[key]) for key in sorted(set(keys)))


def _entry(key: str, kind: str, fields: dict[str, str]) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}", ""])

"""One readable script per table or figure; its results (CSV) lie beside it in results/."""

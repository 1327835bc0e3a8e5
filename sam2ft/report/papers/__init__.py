"""Files for papers: methods text, CLAIM checklist, model card, citations, tables in LaTeX, Markdown and Excel."""

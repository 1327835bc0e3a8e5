"""What every domain shares and nothing else: keys, geometry, labels, prompts, errors with exit codes, atomic files.
Standard library, numpy and scipy.ndimage alone; nothing here knows about models, metrics or jobs.
"""

"""`prepare`: which file belongs to which subject, mask integers to label ids, one volume after another into the
store.
"""

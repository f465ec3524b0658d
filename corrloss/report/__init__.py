"""From tables and the files of runs to one self-contained page, drawn with matplotlib, without mmdet."""

"""The figures of a report as PNG files, drawn with matplotlib from the lines of a sweep."""

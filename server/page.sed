# a text, line by line, as C string literals
s/[\"]/\\&/g
s/^/"/
s/$/\\n"/

# The built-in subjects: subjects/NAME.so

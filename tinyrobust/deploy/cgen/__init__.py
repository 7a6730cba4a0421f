"""The C generator: an int8 `.tflite` becomes self-contained C99 whose outputs equal TensorFlow Lite Micro's."""

"""Small quantized neural networks for microcontrollers that are hard to fool, with honest evidence."""

"""What distillation costs: beside the student alone, beside other toolkits, and as images, boxes and terms grow."""

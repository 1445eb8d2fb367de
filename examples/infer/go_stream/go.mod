module example.invalid/infer

go 1.21

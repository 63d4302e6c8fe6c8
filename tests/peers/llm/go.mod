module llmpeer

go 1.24

"""Reads and writes JSON for some tenths of a second: runs of it differ by what the machine does."""

import json


def record(number):
    return {"id": number, "name": f"name {number}", "tags": [str(n) for n in range(number % 7)], "share": number / 7}


def total(records):
    return sum(each["share"] for each in records if len(each["tags"]) > 2)


def main():
    text = json.dumps([record(number) for number in range(12000)])
    for _ in range(4):
        records = json.loads(text)
        text = json.dumps(records)
        total(records)


main()

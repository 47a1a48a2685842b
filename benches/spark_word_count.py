"""The word count of `cargo xtask bench` with Spark Structured Streaming: stateless per batch, from files to files.

usage: spark_word_count.py DATA_FOLDER OUT_FOLDER REPORT.json FILES_PER_BATCH
"""

import json
import os
import sys
import time

from pyspark.sql import SparkSession
from pyspark.sql.functions import explode, split


def main() -> None:
    data, out, report, files_per_batch = sys.argv[1:5]
    cores = os.cpu_count()
    spark = (
        SparkSession.builder.master(f"local[{cores}]")
        .appName("word-count")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.shuffle.partitions", str(cores))
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")

    def write(batch, batch_id) -> None:
        words = batch.select(explode(split("value", " ")).alias("word"))
        words.groupBy("word").count().write.mode("overwrite").json(f"{out}/.batches/{batch_id}")

    started = time.monotonic()
    lines = spark.readStream.option("maxFilesPerTrigger", files_per_batch).text(data)
    query = lines.writeStream.foreachBatch(write).trigger(availableNow=True).start()
    query.awaitTermination()
    query_seconds = time.monotonic() - started

    # One folder of files, as the other programs write it.
    for batch in os.listdir(f"{out}/.batches"):
        for name in os.listdir(f"{out}/.batches/{batch}"):
            if name.endswith(".json"):
                os.rename(f"{out}/.batches/{batch}/{name}", f"{out}/{batch}-{name}")

    java = spark.sparkContext._gateway.proc.pid
    with open(report, "w") as file:
        json.dump({"query_seconds": query_seconds, **usage_of(java)}, file)
    spark.stop()


def usage_of(pid: int) -> dict:
    """CPU time and peak memory of a process that still runs."""
    with open(f"/proc/{pid}/stat") as file:
        # After the name, which may hold blanks, utime and stime are the 12th and 13th fields.
        fields = file.read().rsplit(")", 1)[1].split()
    ticks = int(fields[11]) + int(fields[12])
    with open(f"/proc/{pid}/status") as file:
        peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
    return {"java_cpu_seconds": ticks / os.sysconf("SC_CLK_TCK"), "java_peak_bytes": int(peak) * 1024}


if __name__ == "__main__":
    main()

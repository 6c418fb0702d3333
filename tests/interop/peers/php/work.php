<?php
// A worker: php work.php SERVERS (FUNCTION BEHAVIOUR LIMIT)...   LIMIT: milliseconds, 0 for none
$behaviours = [
    "echo" => fn(GearmanJob $job) => $job->workload(),
    "print" => function (GearmanJob $job) {
        echo $job->workload() . "\n";
        return "printed";
    },
    "tell" => function (GearmanJob $job) {
        $job->sendData("first");
        $job->sendStatus(1, 2);
        $job->sendWarning("careful");
        $job->sendData("second");
        $job->sendStatus(2, 2);
        return "told";
    },
    "hold" => function (GearmanJob $job) {
        $job->sendStatus(3, 7);
        echo "held\n";
        fgets(STDIN);
        return "let go";
    },
    "count" => function (GearmanJob $job) {
        [$folder, $fails] = explode(" ", $job->workload() . " ");
        $own = "$folder/" . getmypid();
        touch($own);
        usleep(1000);
        $running = count(scandir($folder)) - 2;
        unlink($own);
        return $fails ? $job->sendFail() : (string) $running;
    },
    "fail" => fn(GearmanJob $job) => $job->sendFail(),
    "except" => fn(GearmanJob $job) => $job->sendException("no such luck"),
    "die" => fn(GearmanJob $job) => throw new Exception("no such luck"),
];
$worker = new GearmanWorker();
$worker->addServers($argv[1]);
foreach (array_chunk(array_slice($argv, 2), 3) as [$function, $behaviour, $limit]) {
    $worker->addFunction($function, $behaviours[$behaviour], null, (int) $limit);
}
while (true) {
    try {
        $worker->work();
    } catch (Exception $error) {
        fwrite(STDERR, $error->getMessage() . "\n");
    }
}

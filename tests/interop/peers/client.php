<?php
// The tutorial's client: php client.php HOST PORT FUNCTION < WORKLOAD.
// `do` is what the tutorial writes; since pecl-gearman 1.0 it is called doNormal.
$client = new GearmanClient();
$client->addServer($argv[1], (int) $argv[2]);
$result = $client->doNormal($argv[3], stream_get_contents(STDIN));
if ($client->returnCode() != GEARMAN_SUCCESS) {
    fwrite(STDERR, $client->error() . "\n");
    exit(1);
}
echo $result;
